//! What the tests put in the agent's way: a CPU that is busy in another program, and a kernel that
//! refuses programs. The programs are those of `ebpf/src/probes/hindrance.rs`.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Btf, Ebpf, EbpfLoader,
    programs::{KProbe, Lsm, TracePoint},
};
use endiod::{host::Host, source::kernel::object};

/// What kind of program keeps a CPU busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Busy {
    /// A kprobe's.
    Kprobe,
    /// A classic tracepoint's.
    Tracepoint,
}

/// The bit of a program's type (`enum bpf_prog_type`) in what a [`Refusal`] refuses.
pub(crate) const KPROBE: u32 = 1 << 2;
/// fentry and fexit.
pub(crate) const TRACING: u32 = 1 << 26;

/// While it lives, the kernel takes no programs of some types.
pub(crate) struct Refusal {
    _programs: Ebpf,
}

impl Refusal {
    /// Refuses the types of these bits.
    pub(crate) fn of(types: u32) -> Result<Refusal> {
        let mut loader = EbpfLoader::new();
        loader.override_global("REFUSED_TYPES", &types, true);
        let mut programs = load(&mut loader)?;
        let refuse: &mut Lsm = programs.program_mut("refuse").context("no program")?.try_into()?;
        refuse.load("bpf", &Btf::from_sys_fs()?)?;
        refuse.attach()?;
        Ok(Refusal { _programs: programs })
    }
}

/// Does some work on CPU 0 while that CPU is in a program of this kind whenever it has nothing else to
/// do, and then takes the program away. Interrupts of what the work begins on that CPU nest in it.
pub(crate) fn while_busy<T: Send>(
    busy: Busy,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    let mut programs = load(&mut EbpfLoader::new())?;
    match busy {
        Busy::Kprobe => {
            let program = programs.program_mut("busy_kprobe").context("no program")?;
            let program: &mut KProbe = program.try_into()?;
            program.load()?;
            program.attach("__x64_sys_getppid", 0)?;
        }
        Busy::Tracepoint => {
            let program = programs.program_mut("busy_tracepoint").context("no program")?;
            let program: &mut TracePoint = program.try_into()?;
            program.load()?;
            program.attach("syscalls", "sys_enter_getppid")?;
        }
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| on_cpu_0(|| call_until(&over)));
        let done = on_cpu_0(work);
        over.store(true, Relaxed);
        caller.join().map_err(|_| anyhow::anyhow!("the caller panicked"))??;
        done
    })
}

/// Makes the system call that runs the busy programs, again and again.
fn call_until(over: &AtomicBool) -> Result<()> {
    while !over.load(Relaxed) {
        // SAFETY: getppid(2) takes nothing and cannot fail. The C library may remember its answer, so it
        // is not asked.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
    Ok(())
}

fn load(loader: &mut EbpfLoader<'_>) -> Result<Ebpf> {
    let object = object(Host::default().version()?);
    Ok(loader.load(object.context("endiod was built without programs")?)?)
}

/// Does some work on CPU 0, in a thread of its own: who asks for it is not tied to that CPU, nor are the
/// processes that it starts later.
pub(crate) fn on_cpu_0<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            pin_to_cpu_0()?;
            work()
        });
        worker.join().map_err(|_| anyhow::anyhow!("the thread on CPU 0 panicked"))?
    })
}

fn pin_to_cpu_0() -> Result<()> {
    // SAFETY: cpu_set_t is a bit array for which all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: CPU 0 lies within the set.
    unsafe { libc::CPU_SET(0, &mut set) };
    // SAFETY: `set` is valid for reads of the size that is passed; 0 is the calling thread.
    let status = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    ensure!(status == 0, "cannot pin to CPU 0: {}", std::io::Error::last_os_error());
    Ok(())
}
