//! What a world is made of beyond its protocol: drawn from the seed, or chosen in its place.
//!
//! All of it is drawn, in one order, whatever is chosen: a world that is told in full is the world that
//! its seed alone gives.

use std::fmt;

use super::{Random, World};

/// A kernel that a stream can claim to be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The core of 2012.
    V3_2,
    /// No FAILED; the conversion is the claim.
    V5_10,
    /// FAILED alone was backported, in 6.12.31: the worker releases what failed without a conversion.
    V6_12,
    /// `ext4_end_io_end` is the claim; FAILED defers, but its bio is chained with data_err=abort alone: that
    /// is CVE-2025-38580. It is never drawn, for its kernel breaks the protocol by itself.
    V6_16,
    /// `ext4_end_io_end` is the claim; FAILED may defer, with data_err=abort.
    V6_18,
}

impl Release {
    /// All of them.
    pub const ALL: [Release; 5] =
        [Release::V3_2, Release::V5_10, Release::V6_12, Release::V6_16, Release::V6_18];

    /// Its series.
    pub fn label(self) -> &'static str {
        match self {
            Release::V3_2 => "3.2",
            Release::V5_10 => "5.10",
            Release::V6_12 => "6.12",
            Release::V6_16 => "6.16",
            Release::V6_18 => "6.18",
        }
    }

    /// What its `uname -r` would be.
    pub(super) fn uname(self) -> &'static str {
        match self {
            Release::V3_2 => "3.2.0-endiod-sim",
            Release::V5_10 => "5.10.0-endiod-sim",
            Release::V6_12 => "6.12.31-endiod-sim",
            Release::V6_16 => "6.16.0-endiod-sim",
            Release::V6_18 => "6.18.0-endiod-sim",
        }
    }

    /// Is its claim a function of its own? Of the core of 2012 it stands for the removal from the list.
    pub(super) fn claims(self) -> bool {
        matches!(self, Release::V3_2 | Release::V6_16 | Release::V6_18)
    }
}

/// What is not left to the seed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Release that the stream claims.
    pub release: Option<Release>,
    /// CPUs.
    pub cpus: Option<u16>,
    /// Addresses that io_ends share.
    pub addresses: Option<u16>,
    /// Of 1,000 freed addresses so many are the next to be given out.
    pub reused: Option<u32>,
    /// Of 1,000 bios so many fail.
    pub failing: Option<u32>,
    /// Mounted with data_err=abort.
    pub data_err_abort: Option<bool>,
}

/// What the seed gave, or was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Derived {
    /// Release that the stream claims.
    pub release: Release,
    /// CPUs.
    pub cpus: u16,
    /// Addresses that io_ends share.
    pub addresses: u16,
    /// Of 1,000 freed addresses so many are the next to be given out.
    pub reused: u32,
    /// Of 1,000 bios so many fail.
    pub failing: u32,
    /// Mounted with data_err=abort, which an io_end of 6.15 or later knows of.
    pub data_err_abort: bool,
}

impl Derived {
    pub(super) fn draw(world: World, chosen: Chosen, random: &mut Random) -> Self {
        let sound = world.releases().iter().filter(|release| **release != Release::V6_16);
        let releases: Vec<_> = sound.copied().collect();
        let drawn = Derived {
            release: releases[random.below(releases.len() as u64) as usize],
            cpus: 2 + random.below(3) as u16,
            addresses: 4 + random.below(8) as u16,
            reused: [0, 500, 1000][random.below(3) as usize],
            failing: if random.one_in(2) { 0 } else { random.below(300) as u32 },
            data_err_abort: random.one_in(2),
        };
        Derived {
            release: chosen.release.unwrap_or(drawn.release),
            cpus: chosen.cpus.unwrap_or(drawn.cpus),
            addresses: chosen.addresses.unwrap_or(drawn.addresses),
            reused: chosen.reused.unwrap_or(drawn.reused),
            failing: chosen.failing.unwrap_or(drawn.failing),
            data_err_abort: chosen.data_err_abort.unwrap_or(drawn.data_err_abort),
        }
    }
}

impl fmt::Display for Derived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Derived { release, cpus, addresses, reused, failing, data_err_abort } = self;
        let release = release.label();
        write!(
            f,
            "release {release}, {cpus} CPUs, {addresses} addresses, {reused} of 1000 reused "
        )?;
        write!(f, "at once, {failing} of 1000 bios fail, data_err_abort {data_err_abort}")
    }
}
