//! What a guest's command writes: when it was last heard of, passed on as it comes, its beginning kept.

use std::{
    io::{self, Read as _, Write as _},
    process::ChildStdout,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Instant,
};

/// The most of a command's output that an outcome carries; all of it is relayed.
const OUTPUT_BYTES_MAX: usize = 16 << 20;
/// A longer line is passed on in parts.
const LINE_BYTES_MAX: usize = 64 << 10;

/// When the command was last heard of.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<Mutex<Option<Instant>>>);

impl Heard {
    pub(super) fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Its last word, or its start if it has not said one since.
    pub(super) fn since(&self, started: Instant) -> Instant {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.map_or(started, |last| last.max(started))
    }
}

/// Takes the command's output as it comes, keeps its beginning, and passes it on if asked.
pub(super) fn relay(
    output: Option<ChildStdout>,
    echo: Option<Echo>,
    heard: Heard,
) -> JoinHandle<String> {
    thread::spawn(move || {
        let Some(mut output) = output else { return String::new() };
        let (mut kept, mut echo) = (Vec::new(), echo);
        let mut buffer = [0; 16 << 10];
        while let Ok(length @ 1..) = output.read(&mut buffer) {
            let part = &buffer[..length];
            heard.now();
            if let Some(echo) = &mut echo {
                // Nobody reads us any more: the guest still runs to its end.
                let _ = echo.pass_on(part);
            }
            let room = OUTPUT_BYTES_MAX.saturating_sub(kept.len());
            kept.extend_from_slice(&part[..length.min(room)]);
        }
        if let Some(echo) = echo.as_mut().filter(|echo| !echo.line.is_empty()) {
            let _ = echo.pass_on(b"\n");
        }
        String::from_utf8_lossy(&kept).into_owned()
    })
}

/// Writes to our stdout: as it comes, or whole lines that say whose they are.
pub(super) struct Echo {
    prefix: Option<String>,
    line: Vec<u8>,
}

impl Echo {
    pub(super) fn new(label: Option<&str>) -> Echo {
        Echo { prefix: label.map(|label| format!("[{label}] ")), line: Vec::new() }
    }

    fn pass_on(&mut self, part: &[u8]) -> io::Result<()> {
        let whole = self.whole(part);
        let mut stdout = io::stdout().lock();
        stdout.write_all(&whole)?;
        stdout.flush()
    }

    /// What of `part` and of what waits can be written; a line that has no end yet waits.
    fn whole(&mut self, part: &[u8]) -> Vec<u8> {
        let Some(prefix) = &self.prefix else { return part.to_vec() };
        let mut whole = Vec::with_capacity(part.len());
        for piece in part.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.line.len() > LINE_BYTES_MAX {
                whole.extend_from_slice(prefix.as_bytes());
                whole.append(&mut self.line);
            }
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_begins_with_the_start_or_the_last_word() {
        let (heard, started) = (Heard::default(), Instant::now());
        assert_eq!(heard.since(started), started);
        heard.now();
        let last = heard.since(started);
        assert!(last >= started && last <= Instant::now());
    }

    #[test]
    fn lines_of_a_guest_among_others_are_whole_and_say_whose_they_are() {
        let mut echo = Echo::new(Some("6.1 mounts"));
        assert_eq!(echo.whole(b"half"), b"");
        assert_eq!(echo.whole(b" a line\nand"), b"[6.1 mounts] half a line\n");
        assert_eq!(echo.whole(b" more\n\n"), b"[6.1 mounts] and more\n[6.1 mounts] \n");
        assert_eq!(Echo::new(None).whole(b"as it comes"), b"as it comes");
    }
}
