//! What stands for kernel addresses outside of traces: SipHash-2-4 with the run's key, FNV-1a over such.

use crate::detect::ObjectId;
use crate::event::IoEndAddr;
use crate::lifecycle::IoEndId;

/// Key of the hashes that stand for kernel addresses, random per run, from the HOST record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressKey(pub u64);

impl AddressKey {
    /// What stands for an address outside of traces.
    pub fn hash(self, addr: IoEndAddr) -> u64 {
        self.hash_of(addr.0)
    }

    /// The same for the address of anything else.
    pub fn hash_of(self, address: u64) -> u64 {
        siphash_2_4(self.0, address)
    }

    /// An io_end's id as text.
    pub fn object(self, id: IoEndId) -> String {
        self.name(ObjectId::IoEnd(id))
    }

    /// The id of what is accused, as text.
    pub(super) fn name(self, id: ObjectId) -> String {
        format!("{:016x}@{}", self.hash_of(id.address()), id.born().0)
    }
}

/// FNV-1a, 64 bits.
pub(super) fn fnv_1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// SipHash-2-4 of one word; the 64-bit key fills the low half of its 128.
fn siphash_2_4(key: u64, word: u64) -> u64 {
    siphash_2_4_words([key, 0], &[word], 8 << 56)
}

/// SipHash-2-4 of whole words and the last, padded one.
fn siphash_2_4_words(key: [u64; 2], words: &[u64], last: u64) -> u64 {
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    for word in words.iter().chain([&last]) {
        v[3] ^= word;
        (0..2).for_each(|_| sip_round(&mut v));
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    (0..4).for_each(|_| sip_round(&mut v));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn sip_round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::{AddressKey, fnv_1a, siphash_2_4_words};
    use crate::event::{IoEndAddr, Nanos};
    use crate::lifecycle::IoEndId;

    /// The vectors of the SipHash paper: key 00 … 0f, messages of 8 and 15 bytes.
    #[test]
    fn siphash_matches_the_published_vectors() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let word = 0x0706_0504_0302_0100;
        assert_eq!(siphash_2_4_words(key, &[word], 8 << 56), 0x93f5_f579_9a93_2462);
        let last = 15 << 56 | 0x0e_0d0c_0b0a_0908;
        assert_eq!(siphash_2_4_words(key, &[word], last), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn fnv_matches_the_published_vectors() {
        assert_eq!(fnv_1a("".bytes()), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv_1a("foobar".bytes()), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn an_object_is_named_without_its_address_and_by_its_key() {
        let id = IoEndId { addr: IoEndAddr(0xffff_8881_0123_4540), born: Nanos(77) };
        let text = AddressKey(1).object(id);
        assert!(text.ends_with("@77") && !text.contains("01234540"), "{text}");
        assert_ne!(text, AddressKey(2).object(id));
    }
}
