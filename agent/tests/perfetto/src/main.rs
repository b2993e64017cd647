//! `endiod-perfetto-tests TRACE`: reads a trace by Perfetto's own schema and checks it.
//!
//! Beyond the schema (every field known to it, every string UTF-8) it wants what the trace processor
//! wants of TrackEvents: a clock that times can be told by, each track described before its first event,
//! its parent too, and on each track slices that end in the order of nesting, at times that do not go back.
//! It prints what it found as `name count` lines and ends with 1 at the first thing that is wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail, ensure};
use perfetto_protos::{
    trace::Trace,
    trace_packet::{TracePacket, trace_packet::Data},
    track_descriptor::TrackDescriptor,
    track_event::{TrackEvent, track_event::Type},
};
use protobuf::{Message as _, MessageDyn, reflect::ReflectValueRef};

fn main() -> ExitCode {
    let path = env::args().nth(1).unwrap_or_default();
    match fs::read(&path).with_context(|| format!("cannot read {path:?}")).and_then(|it| check(&it))
    {
        Ok(counts) => {
            counts.iter().for_each(|(name, count)| println!("{name} {count}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{path}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What was found, by name.
fn check(bytes: &[u8]) -> Result<BTreeMap<String, u64>> {
    let trace = Trace::parse_from_bytes(bytes).context("not a Trace")?;
    ensure!(!trace.packet.is_empty(), "a trace without packets");
    known(&trace)?;
    let first = &trace.packet[0];
    clock(first)?;
    let mut tracks = BTreeMap::new();
    let mut events: BTreeMap<u64, Vec<(u64, &TrackEvent)>> = BTreeMap::new();
    let mut counts = BTreeMap::new();
    let mut count = |name: String| *counts.entry(name).or_insert(0) += 1;
    for (at, packet) in trace.packet.iter().enumerate() {
        let of = || format!("packet {at}");
        ensure!(packet.trusted_packet_sequence_id() == 1, "{}: of another writer", of());
        match &packet.data {
            Some(Data::TrackDescriptor(track)) => {
                describe(track, &mut tracks).with_context(of)?;
                count(format!("track {}", track_name(track)));
            }
            Some(Data::TrackEvent(event)) => {
                let track = event.track_uuid();
                ensure!(tracks.contains_key(&track), "{}: on track {track}, not described", of());
                ensure!(packet.has_timestamp(), "{}: an event without a time", of());
                events.entry(track).or_default().push((packet.timestamp(), event));
                if event.type_() != Type::TYPE_SLICE_END {
                    let category = event.categories.first().map_or("moment", String::as_str);
                    count(format!("{category} {}", event.name().split(' ').next().unwrap_or("")));
                }
            }
            Some(Data::ClockSnapshot(_)) if at == 0 => {}
            other => bail!("{}: {other:?} is not expected", of()),
        }
    }
    let mut open = 0;
    for (track, events) in &mut events {
        open += nested(events).with_context(|| format!("track {track}"))?;
    }
    counts.insert("open".to_owned(), open);
    Ok(counts)
}

/// No field of it is unknown to the schema, however deep.
fn known(message: &dyn MessageDyn) -> Result<()> {
    let descriptor = message.descriptor_dyn();
    let unknown = message.special_fields_dyn().unknown_fields();
    if let Some((field, value)) = unknown.iter().next() {
        bail!("{}: field {field} is not in the schema: {value:?}", descriptor.full_name());
    }
    for field in descriptor.fields() {
        if field.is_repeated() {
            for value in &field.get_repeated(message) {
                known_value(&value)?;
            }
        } else if let Some(value) = field.get_singular(message) {
            known_value(&value)?;
        }
    }
    Ok(())
}

fn known_value(value: &ReflectValueRef<'_>) -> Result<()> {
    match value {
        ReflectValueRef::Message(message) => known(&**message),
        _ => Ok(()),
    }
}

/// Times are of the clock that is the trace's own.
fn clock(first: &TracePacket) -> Result<()> {
    const STATE_CLEARED: u32 = 1;
    ensure!(first.sequence_flags() & STATE_CLEARED != 0, "the state is not said to be cleared");
    let Some(Data::ClockSnapshot(snapshot)) = &first.data else {
        bail!("it begins without a clock")
    };
    let primary = snapshot.primary_trace_clock() as u32;
    ensure!(first.trace_packet_defaults.timestamp_clock_id() == primary, "times of another clock");
    ensure!(
        snapshot.clocks.iter().any(|clock| clock.clock_id() == primary),
        "its clock has no time"
    );
    Ok(())
}

fn describe(track: &TrackDescriptor, tracks: &mut BTreeMap<u64, String>) -> Result<()> {
    ensure!(track.uuid() != 0, "a track without a uuid");
    ensure!(!track_name(track).is_empty(), "a track without a name");
    let parent = track.parent_uuid();
    ensure!(parent == 0 || tracks.contains_key(&parent), "its parent {parent} is not described");
    if track.thread.is_some() {
        ensure!(track.thread.pid() > 0 && track.thread.has_tid(), "a thread without its numbers");
    }
    let name = match track.thread.as_ref() {
        // Two threads may be called the same.
        Some(thread) => format!("thread {}", thread.tid()),
        None => track.name().to_owned(),
    };
    tracks.insert(track.uuid(), name);
    let names: BTreeSet<&String> = tracks.values().collect();
    ensure!(names.len() == tracks.len(), "two tracks with one name");
    Ok(())
}

fn track_name(track: &TrackDescriptor) -> String {
    match track.thread.as_ref() {
        Some(_) => "thread".to_owned(),
        None => track.name().split(' ').next().unwrap_or_default().to_owned(),
    }
}

/// How many slices are open at the end; a stable sort by time is what the trace processor does.
fn nested(events: &mut [(u64, &TrackEvent)]) -> Result<u64> {
    events.sort_by_key(|(at, _)| *at);
    let mut open = 0;
    for (at, event) in events.iter() {
        match event.type_() {
            Type::TYPE_SLICE_BEGIN => {
                ensure!(!event.name().is_empty(), "a slice without a name at {at}");
                open += 1;
            }
            Type::TYPE_SLICE_END if open == 0 => bail!("an end without a begin at {at}"),
            Type::TYPE_SLICE_END => open -= 1,
            Type::TYPE_INSTANT => {}
            other => bail!("{other:?} at {at}"),
        }
        for annotation in &event.debug_annotations {
            ensure!(!annotation.name().is_empty() && annotation.value.is_some(), "{annotation:?}");
        }
    }
    Ok(open)
}
