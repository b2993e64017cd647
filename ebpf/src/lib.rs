//! The wire ABI between endiod's programs and its agent, and the check of an assumed layout.
//!
//! ```text
//!  probes/*.rs ─ fields by kernel.rs ─► emit.rs ─► ring ─► agent: source ─► decode
//!      └ tables in maps.rs                └──── wire.rs: the records ────────┘
//! ```
//!
//! The programs are the binary of this package (`main.rs`, built for the BPF target by the agent's build
//! script); this library has no dependency, so that both sides share it. The check runs in the programs,
//! and is here so that it can be tested.
#![no_std]

#[cfg(target_endian = "big")]
compile_error!("endiod runs on little-endian machines only: its wire and its programs are");

pub mod layout;
pub mod wire;
