//! The properties that every core is held to, by name.
//!
//! The first ten are broken by a step, or by none. [`Property::Deadlock`] and
//! [`Property::Evict`] are decided by the explorer from the shape of the whole graph.

macro_rules! properties {
    ($( $name:ident = $label:literal, $claim:literal; )*) => {
        /// What a core is held to.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Property { $( #[doc = $claim] $name, )* }

        impl Property {
            /// All of them.
            pub const ALL: &[Property] = &[ $( Property::$name, )* ];

            /// Short name.
            pub fn label(self) -> &'static str {
                match self { $( Property::$name => $label, )* }
            }

            /// What it claims, as a sentence.
            pub fn claim(self) -> &'static str {
                match self { $( Property::$name => $claim, )* }
            }
        }
    };
}

properties! {
    FreedInUse = "freed_in_use", "Nobody frees an io_end while another party's claim on it is open.";
    UsedAfterFree = "used_after_free", "Nobody touches an io_end, or its inode, once it is freed.";
    Converted = "converted_once", "No incarnation is converted twice.";
    FreedOnce = "freed_once", "No io_end is freed twice.";
    UpdateLost = "no_update_lost", "No store to flag undoes another party's update.";
    WriteRule = "write_under_rule", "Every write to flag is made under the rule of its generation.";
    FsyncEarly = "fsync_after_conversion", "fsync returns only once what it waited for is converted.";
    FailedConverted = "no_failed_conversion", "Nothing is converted after one of its writes failed.";
    HandleLeaked = "handle_settled", "No io_end is freed with its reserved journal handle.";
    Yield = "yield_decided_by_old", "A worker that requeues yields if, and only if, it had requeued that io_end before.";
    Deadlock = "no_deadlock", "As long as something is unfinished, somebody can take a step.";
    Evict = "evict_returns", "From every state one is reachable in which evict returned and every io_end is freed.";
}

/// A set of properties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Properties(u16);

impl Properties {
    /// None.
    pub const NONE: Properties = Properties(0);

    /// Adds one, if `broken`.
    pub fn note(&mut self, property: Property, broken: bool) {
        self.0 |= u16::from(broken) << property as u8;
    }

    /// Is it in the set?
    pub fn contains(self, property: Property) -> bool {
        self.0 & 1 << property as u8 != 0
    }

    /// Is it empty?
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in the set.
    pub fn iter(self) -> impl Iterator<Item = Property> {
        Property::ALL.iter().copied().filter(move |property| self.contains(*property))
    }
}

impl FromIterator<Property> for Properties {
    fn from_iter<I: IntoIterator<Item = Property>>(properties: I) -> Self {
        let mut set = Properties::NONE;
        properties.into_iter().for_each(|property| set.note(property, true));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::{Properties, Property};

    #[test]
    fn a_set_holds_what_was_noted_and_every_property_fits() {
        let mut set = Properties::NONE;
        set.note(Property::Evict, true);
        set.note(Property::FreedOnce, false);
        assert_eq!(set.iter().collect::<Vec<_>>(), [Property::Evict]);
        assert!(Property::ALL.len() <= 16);
        assert!(Property::ALL.iter().enumerate().all(|(at, it)| *it as usize == at));
    }
}
