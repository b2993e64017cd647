//! The few bpf(2) commands that aya does not offer: for programs on module functions, and for what a
//! kprobe missed.
//!
//! Each command has its own structure, laid out as the command's part of the kernel's `union bpf_attr`
//! (include/uapi/linux/bpf.h, 5.11 to 7.3): the kernel takes a shorter one and reads the rest as zero.
//! This module must never decide anything; every result is the kernel's.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use aya_obj::generated::bpf_insn;

use crate::limits;

const PROG_LOAD: libc::c_long = 5;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const BTF_GET_FD_BY_ID: libc::c_long = 19;
const BTF_GET_NEXT_ID: libc::c_long = 23;
const LINK_GET_FD_BY_ID: libc::c_long = 30;

/// `BPF_PROG_TYPE_TRACING`.
const TRACING: u32 = 26;
/// Length of a program's name with its zero (`BPF_OBJ_NAME_LEN`); longer ones are cut, as aya does.
const NAME_LEN: usize = 16;
/// `BPF_PERF_EVENT_KPROBE` of `enum bpf_perf_event_type`.
const PERF_EVENT_KPROBE: u32 = 3;
/// Room for a module's name with its zero (`MODULE_NAME_LEN` is 56 on 64-bit kernels).
const MODULE_NAME_LEN: usize = 64;
/// What the verifier is asked to write when it refuses a program (`BPF_LOG_LEVEL1`).
const LOG_LEVEL: u32 = 1;

/// Where a tracing program is hooked (`enum bpf_attach_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum AttachType {
    /// `BPF_TRACE_FENTRY`.
    Entry = 24,
    /// `BPF_TRACE_FEXIT`.
    Exit = 25,
}

/// What a tracing program is loaded with.
#[derive(Debug)]
pub(super) struct Tracing<'a> {
    pub(super) name: &'a str,
    pub(super) license: &'a CStr,
    pub(super) instructions: &'a [bpf_insn],
    pub(super) attach_type: AttachType,
    /// The function, in the type information of `btf`.
    pub(super) function: u32,
    /// The module's type information.
    pub(super) btf: BorrowedFd<'a>,
}

/// A program that the kernel did not take.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) error: io::Error,
    /// What the verifier wrote, if it came that far.
    pub(super) log: String,
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; NAME_LEN],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
    attach_btf_obj_fd: u32,
    pad: u32,
}

#[repr(C)]
#[derive(Default)]
struct RawTracepointOpen {
    /// No name: the program knows its function.
    name: u64,
    prog_fd: u32,
    pad: u32,
}

#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoByFd {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// `struct bpf_btf_info` as from 5.11.
#[repr(C)]
#[derive(Default)]
struct BtfInfo {
    btf: u64,
    btf_size: u32,
    id: u32,
    name: u64,
    name_len: u32,
    kernel_btf: u32,
}

/// `struct bpf_link_info` of a kprobe, as from 6.7 up to what is asked for.
#[repr(C)]
#[derive(Default)]
struct KprobeInfo {
    link_type: u32,
    id: u32,
    prog_id: u32,
    pad: u32,
    event_type: u32,
    pad_too: u32,
    func_name: u64,
    name_len: u32,
    offset: u32,
    addr: u64,
    missed: u64,
}

/// Loads a program; a refused one is offered again with room for the verifier's words.
pub(super) fn load(program: &Tracing<'_>) -> Result<OwnedFd, Refusal> {
    if let Ok(loaded) = load_with_log(program, &mut []) {
        return Ok(loaded);
    }
    let mut log = vec![0; limits::VERIFIER_LOG_BYTES];
    load_with_log(program, &mut log).map_err(|error| {
        let written = log.split(|&byte| byte == 0).next().unwrap_or(&[]);
        Refusal { error, log: String::from_utf8_lossy(written).into_owned() }
    })
}

fn load_with_log(program: &Tracing<'_>, log: &mut [u8]) -> io::Result<OwnedFd> {
    let mut attr = ProgLoad {
        prog_type: TRACING,
        insn_cnt: len_u32(program.instructions.len())?,
        insns: program.instructions.as_ptr() as u64,
        license: program.license.as_ptr() as u64,
        prog_name: name(program.name),
        expected_attach_type: program.attach_type as u32,
        attach_btf_id: program.function,
        attach_btf_obj_fd: fd_u32(program.btf),
        ..ProgLoad::default()
    };
    if !log.is_empty() {
        attr.log_level = LOG_LEVEL;
        attr.log_size = len_u32(log.len())?;
        attr.log_buf = log.as_mut_ptr() as u64;
    }
    open(PROG_LOAD, &mut attr)
}

/// Hooks a loaded tracing program; it stays hooked while the descriptor is open.
pub(super) fn attach(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attr = RawTracepointOpen { prog_fd: fd_u32(program), ..RawTracepointOpen::default() };
    open(RAW_TRACEPOINT_OPEN, &mut attr)
}

/// The type information in the kernel after that id; `None` after the last.
pub(super) fn next_btf(id: u32) -> io::Result<Option<u32>> {
    let mut attr = ById { id, ..ById::default() };
    match call(BTF_GET_NEXT_ID, &mut attr) {
        Ok(_) => Ok(Some(attr.next_id)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A descriptor of type information; needs CAP_SYS_ADMIN.
pub(super) fn btf(id: u32) -> io::Result<OwnedFd> {
    open(BTF_GET_FD_BY_ID, &mut ById { id, ..ById::default() })
}

/// The kernel's name for type information of its own, a module's that of the module; `None` for what
/// user space loaded.
pub(super) fn kernel_btf_name(btf: BorrowedFd<'_>) -> io::Result<Option<String>> {
    let mut name = [0u8; MODULE_NAME_LEN];
    let mut info = BtfInfo {
        name: name.as_mut_ptr() as u64,
        name_len: len_u32(name.len())?,
        ..BtfInfo::default()
    };
    let mut attr = InfoByFd {
        bpf_fd: fd_u32(btf),
        info_len: len_u32(size_of::<BtfInfo>())?,
        info: (&raw mut info) as u64,
    };
    call(OBJ_GET_INFO_BY_FD, &mut attr)?;
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    Ok((info.kernel_btf != 0).then(|| String::from_utf8_lossy(&name[..end]).into_owned()))
}

/// A descriptor of a link; needs CAP_SYS_ADMIN.
pub(super) fn link(id: u32) -> io::Result<OwnedFd> {
    open(LINK_GET_FD_BY_ID, &mut ById { id, ..ById::default() })
}

/// Hits of a kprobe for which the kernel did not ask its program (from 6.7 on).
pub(super) fn kprobe_missed(link: BorrowedFd<'_>) -> io::Result<u64> {
    let mut info = KprobeInfo::default();
    let mut attr = InfoByFd {
        bpf_fd: fd_u32(link),
        info_len: len_u32(size_of::<KprobeInfo>())?,
        info: (&raw mut info) as u64,
    };
    call(OBJ_GET_INFO_BY_FD, &mut attr)?;
    // A kernel without the field has a shorter structure, and says so.
    let is_whole = attr.info_len == len_u32(size_of::<KprobeInfo>())?;
    if !is_whole || info.event_type != PERF_EVENT_KPROBE {
        return Err(io::Error::other("the kernel does not describe it as a kprobe that counts"));
    }
    Ok(info.missed)
}

fn name(text: &str) -> [u8; NAME_LEN] {
    let mut name = [0; NAME_LEN];
    for (to, from) in name[..NAME_LEN - 1].iter_mut().zip(text.bytes()) {
        *to = from;
    }
    name
}

fn fd_u32(fd: BorrowedFd<'_>) -> u32 {
    u32::try_from(fd.as_raw_fd()).expect("a borrowed descriptor is not negative")
}

fn len_u32(len: usize) -> io::Result<u32> {
    u32::try_from(len).map_err(io::Error::other)
}

fn open<T>(command: libc::c_long, attr: &mut T) -> io::Result<OwnedFd> {
    let fd = call(command, attr)?;
    // SAFETY: the command returned a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call<T>(command: libc::c_long, attr: &mut T) -> io::Result<i32> {
    // SAFETY: the callers of this file pass the structure of their command; its addresses point to
    // buffers of the length beside them that outlive the call, writable where the kernel writes.
    let status =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if status < 0 {
        Err(io::Error::last_os_error())
    } else {
        i32::try_from(status).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn structures_lie_as_the_kernel_reads_them() {
        assert_eq!(offset_of!(ProgLoad, log_buf), 32);
        assert_eq!(offset_of!(ProgLoad, prog_name), 48);
        assert_eq!(offset_of!(ProgLoad, expected_attach_type), 68);
        assert_eq!(offset_of!(ProgLoad, func_info), 80);
        assert_eq!(offset_of!(ProgLoad, line_info), 96);
        assert_eq!(offset_of!(ProgLoad, attach_btf_id), 108);
        assert_eq!(offset_of!(ProgLoad, attach_btf_obj_fd), 112);
        assert_eq!(size_of::<ProgLoad>(), 120);
        assert_eq!(size_of::<BtfInfo>(), 32);
        assert_eq!(size_of::<InfoByFd>(), 16);
        assert_eq!(offset_of!(KprobeInfo, event_type), 16);
        assert_eq!(offset_of!(KprobeInfo, func_name), 24);
        assert_eq!(offset_of!(KprobeInfo, missed), 48);
        assert_eq!(size_of::<KprobeInfo>(), 56);
        assert_eq!(size_of::<RawTracepointOpen>(), 16);
    }

    #[test]
    fn a_long_name_is_cut_and_ends_with_its_zero() {
        assert_eq!(&name("submit_bio"), b"submit_bio\0\0\0\0\0\0");
        assert_eq!(&name("ext4_init_io_end_exit"), b"ext4_init_io_en\0");
    }
}
