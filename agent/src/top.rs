//! What `endiod top` shows: a model that looks on, a snapshot of it each second, and a screen of that.
//!
//! ```text
//!  pipeline ─ step, event ─► Model ─ TICK ─► Snapshot ─► Screen ─► lines of text ─► terminal, stdout
//!                                                          ▲ keys
//! ```
//!
//! The model is fed by the pipeline's own task and must never wait; a snapshot is bounded and holds all that
//! any screen shows. A distribution is that of the last 10 to 20 seconds, a rate that of the last one, a count
//! is since the start. Nothing here does I/O or reads a clock, so a recording is shown as it was.

mod callers;
mod draw;
mod lines;
mod model;
mod rate;
mod screen;
mod snapshot;

pub use draw::{HEIGHT_MIN, WIDTH_MIN, draw};
pub use lines::plain;
pub use model::Model;
pub use screen::{Key, Mode, Order, Screen, Tab, Wish};
pub use snapshot::{Caller, DeviceView, FindingView, Row, Snapshot, StateRow};
