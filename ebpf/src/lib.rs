//! The wire ABI between endiod's programs and its agent, and the check of an assumed layout.
//!
//! This library has no dependency: the programs (`main.rs`, for the BPF target) fill the records, the
//! agent's decoder reads them back. The check runs in the programs, and here so that it can be tested.
#![no_std]

#[cfg(target_endian = "big")]
compile_error!("endiod runs on little-endian machines only: its wire and its programs are");

pub mod layout;
pub mod wire;
