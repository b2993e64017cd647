//! The wire ABI between endiod's programs and its agent, and nothing else.
//!
//! This library has no dependency and no code that runs: the programs (`main.rs`, for the BPF
//! target) fill these records, the agent's decoder reads them back.
#![no_std]

pub mod wire;
