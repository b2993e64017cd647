//! Whether the bytes of io_ends can be believed, where their layout is assumed.
//!
//! ```text
//!              HOST            CONFIG               an io_end fits
//!   (any) ───────────► Described ────────► Assumed ───────────────► Held
//!                                             └──────── one is a misfit ┴───► Misfit, until the next HOST
//! ```
//!
//! Where ext4 is a module without BTF, its io_ends are read as 5.5 to 7.3 lay them out. The programs look
//! at each at its first bio (`ebpf/src/layout.rs`) and the record says what they found. Until one fits, and
//! for good once one does not, images and what was found by following a list are withheld from all that
//! comes after the decoder, and no rule is armed. What no layout is needed for goes on: births, bios,
//! releases, fsyncs.
//!
//! Everything it knows came in records, so a replay believes what the live stream believed.

use std::borrow::Cow;

use endiod_wire::wire::config_key;

use crate::event::{Body, Event, LayoutSign};

/// What is known of the layout on this stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// BTF describes it.
    #[default]
    Described,
    /// Nothing was seen of it yet.
    Assumed,
    /// It was seen to be what was assumed.
    Held,
    /// It was seen to be another.
    Misfit,
}

/// io_ends whose layout was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looks {
    /// That had the one that is assumed.
    pub fits: u64,
    /// That had another.
    pub misfits: u64,
}

/// The layout of io_ends on a stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Layout {
    state: State,
    /// On all streams so far; `None` while each described it.
    looks: Option<Looks>,
}

impl Layout {
    /// Takes what a record says of it; whether what can be believed changed.
    pub fn observe(&mut self, body: &Body) -> bool {
        let believed = self.is_believed();
        match *body {
            Body::Host { .. } => self.state = State::Described,
            Body::Config { key: config_key::LAYOUT_ASSUMED, value: 1.. } => {
                self.looks.get_or_insert_default();
                if self.state == State::Described {
                    self.state = State::Assumed;
                }
            }
            Body::IoEndInode { layout: Some(sign), .. } => self.saw(sign),
            _ => {}
        }
        self.is_believed() != believed
    }

    fn saw(&mut self, sign: LayoutSign) {
        let looks = self.looks.get_or_insert_default();
        match sign {
            LayoutSign::Fits => looks.fits += 1,
            LayoutSign::Misfit => looks.misfits += 1,
        }
        self.state = match (self.state, sign) {
            // A record that answers what nobody asked.
            (State::Described, _) => State::Described,
            (State::Misfit, _) | (_, LayoutSign::Misfit) => State::Misfit,
            (State::Assumed | State::Held, LayoutSign::Fits) => State::Held,
        };
    }

    /// Can the bytes of io_ends be believed?
    pub fn is_believed(&self) -> bool {
        matches!(self.state, State::Described | State::Held)
    }

    /// What was looked at, if the layout was ever assumed.
    pub fn looks(&self) -> Option<Looks> {
        self.looks
    }

    /// The event without what cannot be believed; `None` if nothing of it can.
    pub fn admit<'a>(&self, event: &'a Event) -> Option<Cow<'a, Event>> {
        if self.is_believed() {
            return Some(Cow::Borrowed(event));
        }
        let mut event = *event;
        match &mut event.body {
            Body::Listed { .. } => return None,
            Body::BioEnd { seen, .. }
            | Body::Requeue { seen, .. }
            | Body::FlagWrite { seen, .. }
            | Body::BioDone { seen, .. }
            | Body::Put(seen)
            | Body::PutDefer(seen)
            | Body::Claim(seen)
            | Body::ConvertBegin(seen)
            | Body::Release(seen) => seen.image = None,
            _ => {}
        }
        Some(Cow::Owned(event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{
        BioAddr, Context, InodeAddr, IoEndAddr, IoEndImage, Name, Nanos, Seen, Stamp, Task,
    };

    fn host() -> Body {
        Body::Host { version: 1, cpus: 1, release: Name::new("5.10"), hash_key: 0 }
    }

    fn assumed() -> Body {
        Body::Config { key: config_key::LAYOUT_ASSUMED, value: 1 }
    }

    fn look(sign: LayoutSign) -> Body {
        let (io_end, inode) = (IoEndAddr(1), InodeAddr(2));
        Body::IoEndInode { io_end, inode, id: None, layout: Some(sign) }
    }

    /// After each of these, whether the layout is believed.
    #[track_caller]
    fn check(bodies: &[(Body, bool)]) {
        let mut layout = Layout::default();
        for (body, believed) in bodies {
            let before = layout.is_believed();
            assert_eq!(layout.observe(body), before != *believed, "{body:?}");
            assert_eq!(layout.is_believed(), *believed, "{body:?}");
        }
    }

    #[test]
    fn an_assumed_layout_is_believed_from_the_first_that_fits_to_the_first_that_does_not() {
        let (fits, misfit) = (look(LayoutSign::Fits), look(LayoutSign::Misfit));
        check(&[(host(), true), (assumed(), false), (fits, true), (misfit, false), (fits, false)]);
        check(&[(host(), true), (assumed(), false), (misfit, false), (fits, false)]);
    }

    #[test]
    fn each_stream_begins_anew_and_btf_needs_no_proof() {
        let (fits, misfit) = (look(LayoutSign::Fits), look(LayoutSign::Misfit));
        check(&[(host(), true), (assumed(), false), (misfit, false), (host(), true)]);
        check(&[
            (host(), true),
            (assumed(), false),
            (fits, true),
            (host(), true),
            (assumed(), false),
        ]);
        check(&[(host(), true), (misfit, true)]);
    }

    #[test]
    fn what_rests_on_the_layout_is_withheld_and_nothing_else() {
        let mut layout = Layout::default();
        layout.observe(&assumed());
        let task = Task { tid: 1, tgid: 1 };
        let (at, cpu, context) = (Nanos(1), None, Context::Task);
        let stamp = Stamp { at, cpu, lane: 0, seq: 1, task, context };
        let seen = Seen { io_end: IoEndAddr(8), image: Some(IoEndImage::default()) };
        let done = Body::BioDone { bio: BioAddr(9), part_bytes: Some(1), status: 0, seen };
        let admitted = layout.admit(&Event { stamp, body: done }).map(|event| event.body);
        let without = Seen { image: None, ..seen };
        let expected =
            Body::BioDone { bio: BioAddr(9), part_bytes: Some(1), status: 0, seen: without };
        assert_eq!(admitted, Some(expected));
        let listed = Event { stamp, body: Body::Listed { inode: InodeAddr(2), seen } };
        assert_eq!(layout.admit(&listed), None);
        let attach = Body::BioAttach { io_end: IoEndAddr(8), bio: BioAddr(9), sector: 0, bytes: 1 };
        let attach = Event { stamp, body: attach };
        assert_eq!(layout.admit(&attach).as_deref(), Some(&attach));
        layout.observe(&look(LayoutSign::Fits));
        assert_eq!(layout.admit(&listed).as_deref(), Some(&listed));
    }
}
