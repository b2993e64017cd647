//! What the kernel counts of a process, as `/proc/PID/stat` and `status` show everybody.

use super::Host;

/// USER_HZ, the tick of `/proc/PID/stat`: 100 on every architecture that endiod builds for.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process, by its directory in `/proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// This one.
    Own,
    /// Its first thread alone.
    OwnFirstThread,
    /// Another one, by its id.
    Other(u32),
}

impl Host {
    /// User and system CPU time, seconds; `None` if it cannot be told.
    pub fn cpu_seconds(&self, process: Process) -> Option<f64> {
        cpu_seconds(&self.of(process, "stat")?)
    }

    /// A size of `status`, by its key with the colon, bytes.
    pub fn status_bytes(&self, process: Process, key: &str) -> Option<f64> {
        status_bytes(&self.of(process, "status")?, key)
    }

    /// When it started, seconds since the epoch.
    pub fn start_seconds(&self, process: Process) -> Option<f64> {
        start_seconds(&self.of(process, "stat")?, &self.read("proc/stat").ok()?)
    }

    fn of(&self, process: Process, file: &str) -> Option<String> {
        let directory = match process {
            Process::Own => "self".to_owned(),
            Process::OwnFirstThread => format!("self/task/{}", std::process::id()),
            Process::Other(pid) => pid.to_string(),
        };
        self.read(&format!("proc/{directory}/{file}")).ok()
    }
}

/// Field `number` of `/proc/PID/stat` as proc(5) counts them; the command, field 2, may hold spaces
/// and parentheses, so counting starts after its last one.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((stat_field(stat, 14)? + stat_field(stat, 15)?) / TICKS_PER_SECOND)
}

fn start_seconds(stat: &str, system_stat: &str) -> Option<f64> {
    let boot = system_stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(boot.trim().parse::<f64>().ok()? + stat_field(stat, 22)? / TICKS_PER_SECOND)
}

fn status_bytes(status: &str, key: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok()? * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "7 (a) b) (c) S 1 7 7 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 4 0 250 1 2";

    #[test]
    fn command_with_parentheses_does_not_shift_the_fields() {
        assert_eq!(cpu_seconds(STAT), Some(2.0));
        assert_eq!(start_seconds(STAT, "cpu 1 2\nbtime 1000\n"), Some(1002.5));
    }

    #[test]
    fn what_is_missing_is_absent() {
        assert_eq!(status_bytes("VmRSS:\t    12 kB\n", "VmRSS:"), Some(12288.0));
        assert_eq!(status_bytes("Name:\tendiod\n", "VmRSS:"), None);
        for own in [Process::Own, Process::OwnFirstThread] {
            assert!(Host::default().cpu_seconds(own).is_some());
        }
        assert_eq!(Host::default().cpu_seconds(Process::Other(u32::MAX)), None);
    }
}
