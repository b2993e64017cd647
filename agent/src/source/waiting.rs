//! The stream while there is nothing to attach to: ext4 is a module and no file system is mounted.
//!
//! It has HOST, CONFIG, DEVICE and TICK like any stream, no ATTACH and no event; so time goes on, the
//! gauges say that nothing is in flight, and a recording of it replays. The next stream begins with a
//! HOST of its own.

use std::io;

use crate::{
    event::{DevId, Nanos},
    host::Host,
    source::own::{Opening, OwnRecords},
};

/// Nothing attached.
#[derive(Clone, Debug)]
pub struct Waiting {
    own: OwnRecords,
    cpus: u32,
    release: String,
}

impl Waiting {
    /// On this host.
    ///
    /// # Errors
    /// `/proc` or `/sys` is not mounted.
    pub fn new(host: &Host) -> io::Result<Self> {
        let (cpus, release) = (host.possible_cpus()?, host.release()?);
        Ok(Waiting { own: OwnRecords::default(), cpus, release })
    }

    /// Writes what the stream begins with.
    pub fn announce(&mut self, opening: Opening, deliver: &mut dyn FnMut(&[u8])) {
        self.own.begin(self.cpus, &self.release, opening, deliver);
    }

    /// Announces a device before its first use.
    pub fn announce_device(&mut self, dev: DevId, name: &str, deliver: &mut dyn FnMut(&[u8])) {
        self.own.device(dev, name, deliver);
    }

    /// Writes from which age on an object is stuck, from now on.
    pub fn announce_stuck_after(&mut self, age: Nanos, deliver: &mut dyn FnMut(&[u8])) {
        self.own.stuck_after(age, deliver);
    }

    /// A second has passed.
    pub fn tick(&mut self, deliver: &mut dyn FnMut(&[u8])) {
        self.own.tick(deliver);
    }
}
