//! endiod rebuilds the life of every ext4 `io_end` from the running kernel and reports when the
//! completion protocol is broken, stuck or slow.
//!
//! ```text
//!  kernel ──probe──► wire record ─┬─► decode ──► lifecycle ──► detect ──► finding ──► report, metrics
//!  recording ─────────────────────┤      │ Event                          ▲
//!  simulator ─────────────────────┘      └────────────► oracle ───────────┘
//! ```
//!
//! Follow one event by opening the modules in this order, and never go back:
//!
//! 1. `ebpf/src/probes/*.rs`, `emit.rs`: a program sees a kernel function and writes a record;
//! 2. [`source`]: attaches the programs by the table in [`probes`], yields wire bytes, adds the
//!    agent's own records (host, time, loss, names); or reads all of them back from a recording;
//! 3. [`decode`] and [`event`]: bytes to domain types, or the reason why not; [`layout`]: which of
//!    them can be believed;
//! 4. [`sequence`]: which numbers arrived;
//! 5. [`lifecycle`]: io_ends, direct writes and fsyncs rebuilt, with the table of legal moves;
//! 6. [`detect`] and [`finding`]: the rules, verdicts held until nothing lost can explain them;
//! 7. [`oracle`]: the reference cores, explored by `endiod verify`, and in step with the stream;
//! 8. [`pipeline`]: the order of all that; [`metrics`], [`http`] and [`report`]: what people see;
//! 9. [`recorder`] and [`store`]: the last bytes of the stream, and findings on disk, which [`http`] shows;
//! 10. [`story`] and [`export`]: a recording told as a picture, or to other tools; [`top`]: what happens now, on a screen.
//!
//! Beside the flow: [`host`] and [`devices`] (facts about this machine), [`generation`] and
//! [`known_defects`] (what is known of its kernel), [`doctor`] (what can be seen here), [`witnesses`]
//! (who sees what, by which back end), `flag_writers` (which functions write a flag), [`limits`]
//! (every bound), [`clock`], [`octaves`], and [`stress`], the reproducer that gives the kernel
//! something to do. The verbs of the command line are the binary's (`cmd/<verb>.rs`): they do the I/O.
//!
//! The same way told for readers of findings is `agent/docs/how-it-works.md`.
//!
//! # Tables
//!
//! One per fact; where two must agree, a test compares them: [`probes::PROBES`] (what is hooked),
//! [`lifecycle::TRANSITIONS`] (the legal moves), [`detect::DETECTORS`] (the rules),
//! [`metrics::METRICS`], [`limits::LIMITS`], [`known_defects::KNOWN_DEFECTS`].
//!
//! # Invariants
//!
//! 1. All sources yield wire bytes, so the decoder runs in every mode.
//! 2. Only [`source::kernel`] imports aya; only `cmd`, [`host`], [`devices`], [`http`], [`store`],
//!    [`source`] and the process metrics do I/O (`tests/tidy.rs`).
//! 3. Loss is an event; every verdict says whether loss could explain it (`tests/agreement.rs`: of
//!    worlds with any loss, no sound one is accused).
//! 4. Nothing grows without a named bound, and reaching a bound is counted.
//! 5. Time, loss and names enter the core through records only, so a stream replays to the same end,
//!    to the byte (`tests/replay_golden.rs`).
//! 6. The oracle shares no code with what it judges, and the simulator none with the oracle
//!    (`tests/tidy.rs`).
//! 7. Kernel bytes are never trusted: malformed input is counted, never asserted.

#[cfg(target_endian = "big")]
compile_error!("endiod runs on little-endian machines only: its wire and its programs are");

pub mod clock;
pub mod decode;
pub mod detect;
pub mod devices;
pub mod doctor;
pub mod event;
pub mod export;
pub mod finding;
mod flag_writers;
pub mod generation;
pub mod host;
pub mod http;
pub mod known_defects;
pub mod layout;
pub mod lifecycle;
pub mod limits;
pub mod metrics;
pub mod octaves;
pub mod oracle;
pub mod pipeline;
pub mod privileges;
pub mod probes;
pub mod recorder;
pub mod report;
pub mod sequence;
pub mod source;
pub mod store;
pub mod story;
pub mod stress;
pub mod top;
pub mod witnesses;
