//! The wire ABI between endiod's programs and its agent, and nothing else.
//!
//! This library has no dependency and no code that runs: the programs (`main.rs`, for the BPF
//! target) fill these records, the agent's decoder reads them back.
#![no_std]

#[cfg(target_endian = "big")]
compile_error!("endiod runs on little-endian machines only: its wire and its programs are");

pub mod wire;
