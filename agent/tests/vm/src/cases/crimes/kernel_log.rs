//! What the saboteur says in the kernel log, read as it comes: its warnings fill the buffer.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
};

use anyhow::{Context as _, Result, bail};

/// Longest record of `/dev/kmsg`, bytes (include/linux/printk.h, `PRINTK_MESSAGE_MAX`, and before 6.4
/// `CONSOLE_EXT_LOG_MAX`: 8 KiB).
const RECORD_BYTES_MAX: usize = 8192;

/// The kernel log from now on.
pub(in super::super) struct KernelLog {
    kmsg: File,
}

/// One line that the saboteur wrote before its act.
#[derive(Clone, Debug)]
pub(in super::super) struct Committed {
    pub(in super::super) crime: String,
    /// The address of an io_end or of a kiocb.
    pub(in super::super) object: u64,
    pub(in super::super) at_ns: u64,
    /// The whole line.
    pub(in super::super) line: String,
}

impl KernelLog {
    pub(in super::super) fn open() -> Result<Self> {
        let mut kmsg = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")
            .context("cannot open /dev/kmsg")?;
        kmsg.seek(SeekFrom::End(0)).context("cannot go to the end of /dev/kmsg")?;
        Ok(KernelLog { kmsg })
    }

    /// The crimes that were committed since the last call.
    pub(in super::super) fn crimes(&mut self) -> Result<Vec<Committed>> {
        let mut crimes = Vec::new();
        let mut record = vec![0; RECORD_BYTES_MAX];
        loop {
            let len = match self.kmsg.read(&mut record) {
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(crimes),
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {
                    bail!("the kernel log was overwritten before it was read")
                }
                Err(error) => return Err(error).context("cannot read /dev/kmsg"),
            };
            let text = String::from_utf8_lossy(&record[..len]);
            let message = text.split_once(';').map_or("", |(_, message)| message);
            crimes.extend(committed(message.lines().next().unwrap_or("")));
        }
    }
}

/// `saboteur: committed crime=… object=0x… at_ns=…`, not what continues one.
fn committed(line: &str) -> Option<Committed> {
    let words = line.strip_prefix("saboteur: committed ")?;
    let value =
        |key: &str| words.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    Some(Committed {
        crime: value("crime")?.to_owned(),
        object: u64::from_str_radix(value("object")?.strip_prefix("0x")?, 16).ok()?,
        at_ns: value("at_ns")?.parse().ok()?,
        line: line.to_owned(),
    })
}
