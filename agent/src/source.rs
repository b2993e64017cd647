//! Where wire bytes come from. Every source yields the same records, so the decoder runs in every
//! mode and nothing behind it can tell them apart.

pub mod kernel;
pub mod own;
pub mod sim;
pub mod trace;
pub mod waiting;
