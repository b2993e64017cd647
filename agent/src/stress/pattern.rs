//! Everything random about a run, from one seed: where it writes and what.
//!
//! The offsets of a context depend on the seed, the context and the op, never on time or on other
//! threads, so that two runs of one seed issue the same I/O. The data at an offset depends on the
//! seed and the offset alone, so that overlapping writes agree. Units: bytes.

use std::fmt;
use std::str::FromStr;

use super::StressError;

/// The one number that a run's randomness comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Seed(pub u64);

impl Default for Seed {
    /// The commit that is reproduced.
    fn default() -> Seed {
        Seed(0x491c_aa43_639a)
    }
}

impl FromStr for Seed {
    type Err = StressError;

    fn from_str(text: &str) -> Result<Seed, StressError> {
        let number = match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => text.parse(),
        };
        number.map(Seed).map_err(|_| StressError::BadSeed { text: text.to_owned() })
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): one addition and a mix per number.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    /// The sequence of one stage of one context.
    pub(super) fn new(seed: Seed, context: u32, op: u8) -> Random {
        Random(mix(seed.0 ^ mix(u64::from(context) << 8 | u64::from(op))))
    }

    /// A number below `bound`; the bias is below bound / 2^64.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        let wide = u128::from(mix(self.0)) * u128::from(bound);
        (wide >> 64) as u64
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Writes what belongs at `offset` into `buffer`.
pub(super) fn fill(seed: Seed, offset: u64, buffer: &mut [u8]) {
    let mut at = offset;
    let mut rest = buffer;
    while !rest.is_empty() {
        let (piece, len) = piece(seed, at, rest.len());
        let (head, tail) = rest.split_at_mut(len);
        head.copy_from_slice(&piece[..len]);
        (rest, at) = (tail, at + len as u64);
    }
}

/// The offset of the first byte that is not what belongs there.
pub(super) fn mismatch(seed: Seed, offset: u64, buffer: &[u8]) -> Option<u64> {
    let mut at = offset;
    let mut rest = buffer;
    while !rest.is_empty() {
        let (piece, len) = piece(seed, at, rest.len());
        if let Some(index) = (0..len).find(|&index| rest[index] != piece[index]) {
            return Some(at + index as u64);
        }
        (rest, at) = (&rest[len..], at + len as u64);
    }
    None
}

/// The bytes from `at` to the end of its 8-byte word, at most `len_max`, at the array's start.
fn piece(seed: Seed, at: u64, len_max: usize) -> ([u8; 8], usize) {
    let word = mix(seed.0.wrapping_add((at / 8 + 1).wrapping_mul(GOLDEN)));
    let skipped = (at % 8) as u32;
    ((word >> (skipped * 8)).to_le_bytes(), len_max.min(8 - skipped as usize))
}

/// Which parts of a range this run has written, in whole units.
#[derive(Debug)]
pub(super) struct Written {
    bits: Vec<u64>,
    unit: u64,
}

impl Written {
    pub(super) fn new(units: u64, unit: u64) -> Written {
        let words = usize::try_from(units.div_ceil(64)).expect("WRITTEN_UNITS_MAX fits usize");
        Written { bits: vec![0; words], unit }
    }

    /// Notes that `len` bytes at `start` were written; parts of units do not count.
    pub(super) fn mark(&mut self, start: u64, len: u64) {
        for unit in start.div_ceil(self.unit)..(start + len) / self.unit {
            if let Some(word) = self.bits.get_mut((unit / 64) as usize) {
                *word |= 1 << (unit % 64);
            }
        }
    }

    /// The written units that lie inside `len` bytes at `start`, as start and length.
    pub(super) fn inside(&self, start: u64, len: u64) -> impl Iterator<Item = (u64, u64)> {
        (start.div_ceil(self.unit)..(start + len) / self.unit)
            .filter(|&unit| {
                let word = self.bits.get((unit / 64) as usize);
                word.is_some_and(|word| word >> (unit % 64) & 1 == 1)
            })
            .map(|unit| (unit * self.unit, self.unit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_fixes_the_offsets_of_each_context_and_op() {
        let offsets = |seed, context, op| {
            let mut random = Random::new(Seed(seed), context, op);
            (0..100).map(|_| random.below(160)).collect::<Vec<_>>()
        };
        assert_eq!(offsets(1, 0, 2), offsets(1, 0, 2));
        assert_ne!(offsets(1, 0, 2), offsets(2, 0, 2));
        assert_ne!(offsets(1, 0, 2), offsets(1, 1, 2));
        assert_ne!(offsets(1, 0, 2), offsets(1, 0, 3));
        // Pinned: a change here makes every recorded seed mean something else.
        let start = offsets(Seed::default().0, 0, 2)[..8].to_vec();
        assert_eq!(start, [61, 48, 93, 151, 37, 84, 80, 146]);
        assert!(offsets(1, 0, 2).iter().all(|&offset| offset < 160));
    }

    #[test]
    fn data_depends_on_the_offset_alone() {
        let seed = Seed(7);
        let mut whole = [0; 64];
        fill(seed, 100, &mut whole);
        let mut part = [0; 13];
        fill(seed, 121, &mut part);
        assert_eq!(part, whole[21..34]);
        assert_eq!(mismatch(seed, 121, &whole[21..]), None);
        whole[40] ^= 1;
        assert_eq!(mismatch(seed, 100, &whole), Some(140));
    }

    #[test]
    fn only_whole_units_count_as_written() {
        let mut written = Written::new(10, 4);
        written.mark(6, 11);
        assert_eq!(written.inside(0, 40).collect::<Vec<_>>(), [(8, 4), (12, 4)]);
        assert_eq!(written.inside(9, 7).collect::<Vec<_>>(), [(12, 4)]);
        written.mark(1000, 1000);
    }

    #[test]
    fn seeds_are_decimal_or_hexadecimal() {
        assert_eq!("12".parse::<Seed>().unwrap(), Seed(12));
        assert_eq!(Seed(0x1f).to_string().parse::<Seed>().unwrap(), Seed(0x1f));
        assert!("0xg".parse::<Seed>().unwrap_err().to_string().contains("0xg"));
    }
}
