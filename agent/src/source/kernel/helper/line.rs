//! The line between daemon and helper: a request is a byte, an answer is JSON behind its length, and descriptors
//! come with the length (unix(7), `SCM_RIGHTS`).
//!
//! It must never trust a length: an answer has a bound.

use std::{
    io::{self, IoSlice, IoSliceMut, Read as _, Write as _},
    mem::MaybeUninit,
    net::Shutdown,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use rustix::{
    io::retry_on_intr,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};
use serde::{Serialize, de::DeserializeOwned};

/// Most bytes of an answer: what becomes of watchpoints in a second is the most of it, 100 bytes each.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Most descriptors that come with an answer.
const DESCRIPTORS_MAX: usize = 2;

/// What the daemon may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Attach everything.
    Attach,
    /// Say what was counted.
    Totals,
    /// Detach everything.
    Detach,
    /// Free what is left of it.
    LetGo,
}

impl Request {
    const ALL: [Request; 4] = [Request::Attach, Request::Totals, Request::Detach, Request::LetGo];

    fn byte(self) -> u8 {
        match self {
            Request::Attach => b'a',
            Request::Totals => b't',
            Request::Detach => b'd',
            Request::LetGo => b'x',
        }
    }
}

/// Why there was no answer, or no request.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The other side went away, or was silent for too long.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The answer is too long.
    #[error("an answer of {0} bytes")]
    TooLong(usize),
    /// The answer is none.
    #[error("no answer: {0}")]
    Garbled(#[from] serde_json::Error),
    /// No such request.
    #[error("a request {0:#04x}")]
    Unknown(u8),
    /// Not the descriptors that belong to an answer.
    #[error("an answer without its descriptors")]
    Descriptors,
}

/// One end of it.
#[derive(Debug)]
pub(super) struct Line(UnixStream);

impl Line {
    pub(super) fn new(socket: UnixStream) -> Self {
        Line(socket)
    }

    /// Asks, and hears the answer.
    pub(super) fn ask<T: DeserializeOwned>(
        &mut self,
        request: Request,
        within: Duration,
    ) -> Result<(T, Vec<OwnedFd>), LineError> {
        self.0.write_all(&[request.byte()])?;
        self.hear(within)
    }

    /// Hears an answer. Where there is none in time the line is out of step for ever, and cut.
    pub(super) fn hear<T: DeserializeOwned>(
        &mut self,
        within: Duration,
    ) -> Result<(T, Vec<OwnedFd>), LineError> {
        let heard = self.try_hear(within);
        if heard.is_err() {
            self.hang_up();
        }
        heard
    }

    fn try_hear<T: DeserializeOwned>(
        &mut self,
        within: Duration,
    ) -> Result<(T, Vec<OwnedFd>), LineError> {
        self.0.set_read_timeout(Some(within))?;
        let mut length = [0; 4];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut whole = [IoSliceMut::new(&mut length)];
        let received =
            retry_on_intr(|| recvmsg(&self.0, &mut whole, &mut ancillary, RecvFlags::CMSG_CLOEXEC));
        let received = received.map_err(io::Error::from)?;
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(came) = message {
                descriptors.extend(came);
            }
        }
        if received.bytes == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.0.read_exact(&mut length[received.bytes..])?;
        let length = u32::from_ne_bytes(length) as usize;
        if length > ANSWER_BYTES_MAX {
            return Err(LineError::TooLong(length));
        }
        let mut answer = vec![0; length];
        self.0.read_exact(&mut answer)?;
        Ok((serde_json::from_slice(&answer)?, descriptors))
    }

    /// The next request; none once the other side is gone.
    pub(super) fn listen(&mut self) -> Result<Option<Request>, LineError> {
        let mut byte = [0];
        match self.0.read_exact(&mut byte) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let mut requests = Request::ALL.into_iter();
        let request = requests.find(|request| request.byte() == byte[0]);
        request.map(Some).ok_or(LineError::Unknown(byte[0]))
    }

    /// Answers; with as many descriptors as there are.
    pub(super) fn answer<T: Serialize>(
        &mut self,
        answer: &T,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), LineError> {
        let answer = serde_json::to_vec(answer)?;
        let length = u32::try_from(answer.len()).map_err(|_| LineError::TooLong(answer.len()))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fits = ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        assert!(fits, "no answer has more descriptors than there is room for");
        let length = length.to_ne_bytes();
        let sent = retry_on_intr(|| {
            sendmsg(&self.0, &[IoSlice::new(&length)], &mut ancillary, SendFlags::NOSIGNAL)
        });
        let sent = sent.map_err(io::Error::from)?;
        self.0.write_all(&length[sent..])?;
        self.0.write_all(&answer)?;
        Ok(())
    }

    /// Nothing is said or heard any more.
    pub(super) fn hang_up(&mut self) {
        // An error means that the other side did.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsFd as _, thread};

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn pair() -> (Line, Line) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Line::new(ours), Line::new(theirs))
    }

    #[test]
    fn an_answer_comes_with_its_descriptors_however_long_it_is() {
        let (mut daemon, mut helper) = pair();
        let text = "so long ".repeat(100_000);
        let served = text.clone();
        let helping = thread::spawn(move || {
            let file = File::open("/proc/self/stat").unwrap();
            assert_eq!(helper.listen().unwrap(), Some(Request::Totals));
            helper.answer(&served, &[file.as_fd(), file.as_fd()]).unwrap();
            assert_eq!(helper.listen().unwrap(), Some(Request::Detach));
            helper.answer(&(), &[]).unwrap();
            assert_eq!(helper.listen().unwrap(), None);
        });
        let (heard, descriptors) = daemon.ask::<String>(Request::Totals, SOON).unwrap();
        assert!(heard == text, "{} bytes came", heard.len());
        let mut stat = String::new();
        File::from(descriptors.into_iter().last().unwrap()).read_to_string(&mut stat).unwrap();
        assert!(stat.starts_with(&std::process::id().to_string()), "{stat}");
        let ((), none) = daemon.ask(Request::Detach, SOON).unwrap();
        assert!(none.is_empty());
        daemon.hang_up();
        helping.join().unwrap();
    }

    #[test]
    fn every_other_byte_is_refused() {
        for byte in 0..=u8::MAX {
            let (mut daemon, mut helper) = pair();
            daemon.0.write_all(&[byte]).unwrap();
            let known = Request::ALL.iter().find(|request| request.byte() == byte);
            match (helper.listen(), known) {
                (Ok(heard), Some(known)) => assert_eq!(heard, Some(*known)),
                (Err(LineError::Unknown(told)), None) => assert_eq!(told, byte),
                (heard, _) => panic!("{byte:#x}: {heard:?}"),
            }
        }
    }

    #[test]
    fn a_length_is_not_trusted_and_a_lost_helper_is_noticed() {
        let (mut daemon, mut helper) = pair();
        helper.0.write_all(&u32::MAX.to_ne_bytes()).unwrap();
        assert!(matches!(daemon.hear::<()>(SOON), Err(LineError::TooLong(_))));
        let (mut daemon, mut helper) = pair();
        helper.0.write_all(&[4, 0, 0, 0, b'n', b'o', b'p', b'e']).unwrap();
        assert!(matches!(daemon.hear::<()>(SOON), Err(LineError::Garbled(_))));
        let (mut daemon, helper) = pair();
        drop(helper);
        assert!(matches!(daemon.ask::<()>(Request::Totals, SOON), Err(LineError::Io(_))));
    }
}
