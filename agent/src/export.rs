//! A stream for other tools: what happened as spans and moments, as Perfetto's trace or as JSON lines.
//!
//! ```text
//!   pipeline ─► Chronicle ─► Item ─┬─► perfetto   tracks, slices, TrackEvent protobuf
//!              (an onlooker)       └─► lines      one JSON object a line, agent/docs/export.md
//! ```
//!
//! A span is told when it is over, or at the end of the stream as one that is open; so items come in the
//! order of their ends. What could not be seen is absent. No item holds a kernel address. This module
//! must never do I/O: it gives out bytes.

mod chronicle;
mod item;
mod lines;
mod perfetto;
mod protobuf;
mod tracks;

pub use chronicle::Chronicle;
pub use item::{Call, Item, Life, Loss, Phase, What};
pub use lines::line;
pub use perfetto::Perfetto;
