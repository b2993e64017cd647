//! An encrypted directory: a key for the file system, a policy for the directory
//! (linux/fscrypt.h, version 2 of both, since 5.4).

use std::{fs::File, path::Path};

use anyhow::{Context as _, Result};

use crate::disk::ioctl;

/// `_IOWR('f', 23, struct fscrypt_add_key_arg)`.
const ADD_ENCRYPTION_KEY: u64 = 0xc050_6617;
/// `_IOR('f', 19, struct fscrypt_policy_v1)`; version 2 goes by the same number.
const SET_ENCRYPTION_POLICY: u64 = 0x800c_6613;
const KEY_SPEC_TYPE_IDENTIFIER: u32 = 2;
const MODE_AES_256_XTS: u8 = 1;
const MODE_AES_256_CTS: u8 = 4;
const FLAGS_PAD_32: u8 = 3;

/// `struct fscrypt_add_key_arg` and the key behind it.
#[repr(C)]
struct AddKey {
    kind: u32,
    reserved_of_spec: u32,
    /// The kernel fills in the first 16 bytes.
    identifier: [u8; 32],
    raw_size: u32,
    key_id: u32,
    reserved: [u32; 8],
    raw: [u8; 64],
}

/// `struct fscrypt_policy_v2`.
#[repr(C)]
struct Policy {
    version: u8,
    contents_encryption_mode: u8,
    filenames_encryption_mode: u8,
    flags: u8,
    reserved: [u8; 4],
    identifier: [u8; 16],
}

/// Encrypts what will be written into an empty directory of a file system with that feature.
pub(crate) fn encrypt(root: &Path, dir: &Path) -> Result<()> {
    let mut key = AddKey {
        kind: KEY_SPEC_TYPE_IDENTIFIER,
        reserved_of_spec: 0,
        identifier: [0; 32],
        raw_size: 64,
        key_id: 0,
        reserved: [0; 8],
        raw: std::array::from_fn(|at| (at % 251) as u8),
    };
    ioctl(&File::open(root)?, ADD_ENCRYPTION_KEY, &mut key).context("cannot add a key")?;
    let mut identifier = [0; 16];
    identifier.copy_from_slice(&key.identifier[..16]);
    let mut policy = Policy {
        version: 2,
        contents_encryption_mode: MODE_AES_256_XTS,
        filenames_encryption_mode: MODE_AES_256_CTS,
        flags: FLAGS_PAD_32,
        reserved: [0; 4],
        identifier,
    };
    ioctl(&File::open(dir)?, SET_ENCRYPTION_POLICY, &mut policy).context("cannot set the policy")
}
