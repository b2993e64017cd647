//! The pipeline from wire bytes to findings and summary, and what stands beside it.

#![expect(clippy::unwrap_used, reason = "in a test a failure is a message, not an outage")]

#[path = "pipeline/cardinality.rs"]
mod cardinality;
#[path = "pipeline/layout.rs"]
mod layout;
#[path = "pipeline/recorder.rs"]
mod recorder;
#[path = "pipeline/stream.rs"]
mod stream;
#[path = "pipeline/streams.rs"]
mod streams;
#[path = "pipeline/totals.rs"]
mod totals;
#[path = "pipeline/unseen_bios.rs"]
mod unseen_bios;
