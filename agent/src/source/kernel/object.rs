//! The BPF objects that `build.rs` made, if it could.

/// The first kernel whose BPF has an atomic fetch-and-add.
pub const FETCH_AND_ADD_FROM: (u32, u32) = (5, 12);

/// The object for a kernel of that version; `None` when the agent was built without programs.
///
/// Atomic fetch-and-add came with 5.12; an older kernel refuses an object that holds one, so it gets
/// the object whose sequence numbers come from lanes.
#[cfg(programs)]
pub fn for_kernel(version: (u32, u32)) -> Option<&'static [u8]> {
    static FETCH_AND_ADD: &[u8] =
        aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/programs.o"));
    static LANES: &[u8] =
        aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/programs-lanes.o"));
    Some(if version >= FETCH_AND_ADD_FROM { FETCH_AND_ADD } else { LANES })
}

/// The object for a kernel of that version; there is none in this build.
#[cfg(not(programs))]
pub fn for_kernel(_version: (u32, u32)) -> Option<&'static [u8]> {
    None
}
