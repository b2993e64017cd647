//! How the kernel preempts its own code, as far as it tells.
//!
//! ```text
//!  /sys/kernel/debug/sched/preempt   none voluntary (full)      what is in force (from 5.12)
//!  /proc/cmdline                     preempt=voluntary          what was asked for
//!  /proc/version                     #1 SMP PREEMPT_DYNAMIC …   what was built
//! ```

/// A preemption model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preemption {
    /// Kernel code is preempted at no or at chosen points only.
    No(&'static str),
    /// Kernel code is preempted anywhere.
    Yes(&'static str),
    /// Chosen at boot, and not shown.
    Unknown,
}

pub(super) fn tell(
    debugfs: Option<&str>,
    cmdline: Option<&str>,
    version: Option<&str>,
) -> Preemption {
    let in_force = debugfs.and_then(|text| text.split_once('(')?.1.split_once(')'));
    if let Some(model) = in_force.and_then(|(model, _)| named(model)) {
        return model;
    }
    let Some(version) = version else { return Preemption::Unknown };
    let built = |word: &str| version.split_ascii_whitespace().any(|part| part == word);
    if built("PREEMPT_RT") {
        return Preemption::Yes("real time");
    }
    if built("PREEMPT_DYNAMIC") {
        let asked = cmdline.and_then(|text| {
            text.split_ascii_whitespace().rev().find_map(|word| word.strip_prefix("preempt="))
        });
        return asked.and_then(named).unwrap_or(Preemption::Unknown);
    }
    match () {
        () if built("PREEMPT") => Preemption::Yes("full"),
        () if built("PREEMPT_LAZY") => Preemption::Yes("lazy"),
        () => Preemption::No("none or voluntary"),
    }
}

fn named(model: &str) -> Option<Preemption> {
    Some(match model {
        "none" => Preemption::No("none"),
        "voluntary" => Preemption::No("voluntary"),
        "full" => Preemption::Yes("full"),
        "lazy" => Preemption::Yes("lazy"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_force_wins_over_what_was_asked_for_and_built() {
        let dynamic = Some("Linux version 6.18.15 (b) #1 SMP PREEMPT_DYNAMIC Debian 6.18.15-1");
        let asked = Some("quiet preempt=voluntary");
        assert_eq!(
            tell(Some("none voluntary (full) lazy\n"), asked, dynamic),
            Preemption::Yes("full")
        );
        assert_eq!(tell(None, asked, dynamic), Preemption::No("voluntary"));
        assert_eq!(tell(None, Some("quiet"), dynamic), Preemption::Unknown);
        let rt = Some("Linux version 6.12 #1 SMP PREEMPT_RT x");
        assert_eq!(tell(None, None, rt), Preemption::Yes("real time"));
        let server = Some("Linux version 5.10.0-46-cloud-amd64 (b) #1 SMP Debian 5.10.262-1");
        assert_eq!(tell(None, None, server), Preemption::No("none or voluntary"));
        assert_eq!(tell(None, None, None), Preemption::Unknown);
    }
}
