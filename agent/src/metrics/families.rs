//! The families of a registry, one per row of the table.
//!
//! A module asks for its family by name when it is built and keeps it; a name that the table does not
//! have is a mistake of this crate, found by the first test that builds the metrics.

use prometheus::core::Collector;
use prometheus::{CounterVec, GaugeVec, IntCounterVec, Opts, Registry};

use super::octaves::OctavesVec;
use super::table::{METRICS, MetricRow, Scope, Type, Unit};

/// A family and its row.
enum Family {
    Counter(IntCounterVec),
    /// A counter of time, which is no whole number.
    Seconds(CounterVec),
    Gauge(GaugeVec),
    Histogram(OctavesVec),
}

/// Every family of the table but those that are read at the scrape (`Scope::Process`).
pub(super) struct Families(Vec<(&'static str, Family)>);

impl Families {
    /// Makes and registers one family per row.
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let rows = METRICS.iter().filter(|row| row.scope != Scope::Process);
        let families = rows.map(|row| Ok((row.name, register(registry, row)?)));
        families.collect::<prometheus::Result<_>>().map(Families)
    }

    pub(super) fn counter(&self, name: &str) -> IntCounterVec {
        match self.find(name) {
            Family::Counter(family) => family.clone(),
            _ => panic!("{name} is not a counter"),
        }
    }

    pub(super) fn seconds(&self, name: &str) -> CounterVec {
        match self.find(name) {
            Family::Seconds(family) => family.clone(),
            _ => panic!("{name} is not a counter of seconds"),
        }
    }

    pub(super) fn gauge(&self, name: &str) -> GaugeVec {
        match self.find(name) {
            Family::Gauge(family) => family.clone(),
            _ => panic!("{name} is not a gauge"),
        }
    }

    pub(super) fn histogram(&self, name: &str) -> OctavesVec {
        match self.find(name) {
            Family::Histogram(family) => family.clone(),
            _ => panic!("{name} is not a histogram"),
        }
    }

    fn find(&self, name: &str) -> &Family {
        let found = self.0.iter().find(|(known, _)| *known == name);
        &found.unwrap_or_else(|| panic!("METRICS has no {name}")).1
    }
}

fn register(registry: &Registry, row: &MetricRow) -> prometheus::Result<Family> {
    let labels: Vec<&str> = row.labels.iter().map(|label| label.name).collect();
    let opts = Opts::new(row.name, row.help);
    Ok(match row.kind {
        Type::Counter if row.unit == Unit::Seconds => {
            Family::Seconds(add(registry, CounterVec::new(opts, &labels)?)?)
        }
        Type::Counter => Family::Counter(add(registry, IntCounterVec::new(opts, &labels)?)?),
        Type::Gauge => Family::Gauge(add(registry, GaugeVec::new(opts, &labels)?)?),
        Type::Histogram => {
            Family::Histogram(add(registry, OctavesVec::new(row.name, row.help, &labels)?)?)
        }
    })
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, family: C) -> prometheus::Result<C> {
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}
