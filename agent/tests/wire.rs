//! The wire: every record decodes, and nothing that is not a record does.

use endiod::{
    decode::{Malformed, decode},
    event::{Body, Event},
};
use endiod_wire::wire::{self, Header, RECORD_LEN_MAX, RECORDS, Record, bytes_of};

fn header(kind: u16, len: usize) -> Header {
    let len = u16::try_from(len).expect("records are short");
    Header { kind, len, cpu: 3, lane: 0, context: 1, seq: 7, time_ns: 99, tid: 11, tgid: 10 }
}

/// A record of that kind with `fill` in every byte of its body.
fn record(kind: u16, len: usize, fill: u8) -> Vec<u8> {
    let mut bytes = vec![fill; len];
    let tick = wire::Tick { header: header(kind, len), ordinal: 0 };
    let head = size_of::<Header>();
    bytes[..head].copy_from_slice(&bytes_of(&tick)[..head]);
    bytes
}

#[test]
fn every_kind_decodes_at_its_length_and_at_no_other() {
    for &(kind, name, len) in RECORDS {
        let whole = record(kind, len, 0);
        match decode(&whole) {
            Ok(Event { stamp, .. }) => assert_eq!((stamp.seq, stamp.at.0), (7, 99), "{name}"),
            // A zero is outside the set of phases.
            Err(Malformed::Value) => assert!(name.starts_with("fsync_phase"), "{name}"),
            Err(other) => panic!("{name}: {other}"),
        }
        for cut in 0..len {
            assert_eq!(decode(&whole[..cut]), Err(Malformed::Short), "{name} cut at {cut}");
        }
        for wrong in [len - 8, len + 8] {
            let wrong = record(kind, wrong, 0);
            assert_eq!(decode(&wrong), Err(Malformed::Length), "{name} at a wrong length");
        }
    }
}

#[test]
fn bytes_after_a_record_are_not_its_own() {
    let mut bytes = record(wire::Tick::KIND, size_of::<wire::Tick>(), 0);
    let alone = decode(&bytes).unwrap();
    bytes.extend([0xff; 40]);
    assert_eq!(decode(&bytes).unwrap(), alone);
}

#[test]
fn unknown_kinds_are_refused() {
    for kind in 0..=u16::MAX {
        if RECORDS.iter().any(|(known, ..)| *known == kind) {
            continue;
        }
        assert_eq!(decode(&record(kind, 48, 0)), Err(Malformed::Kind), "kind {kind}");
    }
}

#[test]
fn any_bytes_give_an_event_or_a_reason() {
    let mut state = 0x491c_aa43_639a_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let (mut events, mut refused) = (0, 0);
    for round in 0..200_000 {
        let mut bytes = [0_u8; RECORD_LEN_MAX];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&next().to_ne_bytes());
        }
        // Half of them with a plausible head, or hardly any would get past it.
        if round % 2 == 0 {
            let (kind, _, len) = RECORDS[usize::try_from(next()).unwrap() % RECORDS.len()];
            bytes[0..2].copy_from_slice(&kind.to_ne_bytes());
            bytes[2..4].copy_from_slice(&u16::try_from(len).unwrap().to_ne_bytes());
            bytes[7] %= 6;
        }
        let len = usize::try_from(next()).unwrap() % bytes.len();
        match decode(&bytes[..len]) {
            Ok(_) => events += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(events > 1000 && refused > 1000, "{events} events, {refused} refused");
}

#[test]
fn what_could_not_be_read_is_absent() {
    let mut release = wire::Release {
        header: header(wire::Release::KIND, size_of::<wire::Release>()),
        io_end: 0xa0,
        valid: 0,
        pad: 0,
        image: wire::IoEndImage { flag: 1, ..wire::IoEndImage::default() },
    };
    let image = |release: &wire::Release| match decode(bytes_of(release)).unwrap().body {
        Body::Release(seen) => seen.image,
        other => panic!("{other:?}"),
    };
    assert_eq!(image(&release), None);
    release.valid = wire::valid::IMAGE;
    assert_eq!(image(&release).map(|image| image.flag), Some(1));
}

#[test]
fn kinds_have_their_own_names_and_lengths_in_words() {
    for (at, (kind, name, len)) in RECORDS.iter().enumerate() {
        assert!(RECORDS[..at].iter().all(|(other, known, _)| other != kind && known != name));
        assert_eq!(len % 8, 0, "{name}");
    }
}
