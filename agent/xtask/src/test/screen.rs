//! `endiod top` in a real terminal: Debian's tmux, detached, in which keys are sent and of which the screen is read.
//!
//! ```text
//!   tmux server ── pty, 80x24 ── sh ── endiod top RECORDING
//!        ▲ send-keys, resize-window      │ ends: the other screen is gone, the modes are those of before
//!        └ capture-pane, until it shows what it must, or the patience is over
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    command::{cargo, output, remove_dir_all, run, shell_word},
    setup,
    workspace::Workspace,
};

/// A recording with findings, of four seconds.
const RECORDING: &str = "agent/tests/data/recordings/failing/6.1.endiod";
/// How long a machine that builds meanwhile may take for a frame.
const PATIENCE: Duration = Duration::from_secs(60);

/// Every way in and out.
pub(super) fn check(workspace: &Workspace) -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--quiet", "--package", "endiod"]);
    run(build.current_dir(workspace.root()))?;
    let tmux = Tmux::open(workspace)?;
    let endiod = shell_word(&workspace.root().join("target/debug/endiod").to_string_lossy());
    let recording = shell_word(&workspace.root().join(RECORDING).to_string_lossy());
    let top = format!("{endiod} top --speed 100 {recording}");
    views_and_sizes(&tmux, &top).context("views and sizes")?;
    playing(&tmux, &format!("{endiod} top --speed 0.1 {recording}")).context("playing")?;
    suspended(&tmux, &top).context("Ctrl-Z")?;
    stopped(&tmux, &top).context("SIGTERM")?;
    cut(&tmux, workspace, &endiod).context("a recording that is cut")?;
    colours(&tmux, &top).context("colours")
}

fn views_and_sizes(tmux: &Tmux, top: &str) -> Result<()> {
    tmux.during(top, 0, |tmux| {
        tmux.shows("at its end")?;
        tmux.shows("[1 Overview]")?;
        tmux.keys(&["2"])?;
        tmux.shows("fsync by process")?;
        tmux.keys(&["Tab"])?;
        tmux.shows("fsync by cgroup, all devices, by rate")?;
        tmux.keys(&["s"])?;
        tmux.shows("by count")?;
        tmux.keys(&["5"])?;
        tmux.shows("> convert_after_failed_write certain   dm-0          44b4c6664851d172")?;
        tmux.keys(&["Down"])?;
        tmux.shows("> convert_after_failed_write certain   dm-0          4dbc21652e72eb2a")?;
        tmux.keys(&["d"])?;
        tmux.shows("device dm-0")?;
        tmux.keys(&["?"])?;
        tmux.shows("this help")?;
        tmux.keys(&["Escape"])?;
        tmux.shows("5 Findings]")?;
        tmux.resize("60", "15")?;
        tmux.shows("60x15 is cut")?;
        tmux.resize("30", "8")?;
        tmux.shows("needs 40x10")?;
        tmux.resize("80", "24")?;
        tmux.shows("q quit  ? help  Tab view")?;
        tmux.keys(&["q"])
    })
}

/// So slowly that no frame is missed: a pause holds, a step goes back and on.
fn playing(tmux: &Tmux, top: &str) -> Result<()> {
    tmux.during(top, 0, |tmux| {
        tmux.shows("in flight")?;
        tmux.keys(&["Space"])?;
        tmux.shows("PAUSED")?;
        // To a place that is known, however much was played.
        tmux.keys(&["Left", "Left", "Left", "Left", "Left", "Left"])?;
        tmux.shows("PAUSED  0.1 s")?;
        tmux.keys(&["Right"])?;
        tmux.shows("PAUSED  1.0 s")?;
        tmux.keys(&["Left"])?;
        tmux.shows("PAUSED  0.1 s")?;
        tmux.keys(&["Space"])?;
        tmux.shows("recording, x0.1  1.0 s")?;
        tmux.keys(&["C-c"])
    })
}

/// What the shell says of a job that SIGTSTP stopped; the rest of the line runs then.
const STOPPED: i32 = 128 + 20;

fn suspended(tmux: &Tmux, top: &str) -> Result<()> {
    tmux.during(top, STOPPED, |tmux| {
        tmux.shows("at its end")?;
        tmux.keys(&["C-z"])?;
        tmux.until("the shell's screen", |tmux| Ok(!tmux.is_other_screen()?))?;
        tmux.keys(&["fg", "Enter"])?;
        tmux.shows("at its end")?;
        ensure!(tmux.is_other_screen()?, "it draws on the shell's screen");
        tmux.keys(&["q"])?;
        tmux.until("the shell's screen", |tmux| Ok(!tmux.is_other_screen()?))
    })
}

fn stopped(tmux: &Tmux, top: &str) -> Result<()> {
    let number = tmux.dir.join("number");
    let as_itself = format!("echo $$ > {}; exec {top}", shell_word(&number.to_string_lossy()));
    tmux.during(&format!("sh -c {}", shell_word(&as_itself)), 0, |tmux| {
        tmux.shows("at its end")?;
        let number = fs::read_to_string(&number).context("no process number")?;
        run(Command::new("kill").args(["-TERM", number.trim()]))
    })
}

fn cut(tmux: &Tmux, workspace: &Workspace, endiod: &str) -> Result<()> {
    let whole = fs::read(workspace.root().join(RECORDING)).context("no recording")?;
    let file = tmux.dir.join("cut.endiod");
    fs::write(&file, &whole[..whole.len() / 2]).context("cannot write a recording")?;
    let top = format!("{endiod} top --speed 100 {}", shell_word(&file.to_string_lossy()));
    tmux.during(&top, 2, |tmux| {
        tmux.shows("! the recording is cut off")?;
        tmux.keys(&["q"])
    })
}

fn colours(tmux: &Tmux, top: &str) -> Result<()> {
    for (top, has_red) in [(top.to_owned(), true), (format!("NO_COLOR=1 {top}"), false)] {
        tmux.during(&top, 0, |tmux| {
            tmux.shows("at its end")?;
            let screen = tmux.command(&["capture-pane", "-p", "-e"])?;
            // The first of the palette, as crossterm sets it.
            let is_red = screen.contains("38;5;1m");
            ensure!(is_red == has_red, "{top}: red {is_red}, and not {has_red}\n{screen}");
            tmux.keys(&["q"])
        })?;
    }
    Ok(())
}

/// A server of tmux's with one window.
struct Tmux {
    programs: PathBuf,
    dir: PathBuf,
}

impl Tmux {
    fn open(workspace: &Workspace) -> Result<Tmux> {
        let programs = setup::programs_of_debian(workspace, &setup::TMUX)?;
        let dir = std::env::temp_dir().join(format!("endiod-screen-{}", std::process::id()));
        remove_dir_all(&dir)?;
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let tmux = Tmux { programs, dir };
        tmux.command(&["new-session", "-d", "-x", "80", "-y", "24", "PS1='$ ' exec sh -i"])?;
        tmux.shows("$")?;
        Ok(tmux)
    }

    fn command(&self, args: &[&str]) -> Result<String> {
        let mut tmux = setup::command_of_debian(&self.programs, "tmux");
        tmux.args(["-u", "-f", "/dev/null", "-S"]).arg(self.dir.join("socket")).args(args);
        tmux.env_clear().env("LC_ALL", "C.UTF-8").env("PATH", "/usr/bin:/bin");
        output(tmux.env("SHELL", "/bin/sh").env("TERM", "screen"))
    }

    fn keys(&self, keys: &[&str]) -> Result<()> {
        self.command(&[&["send-keys"], keys].concat()).map(drop)
    }

    fn resize(&self, columns: &str, lines: &str) -> Result<()> {
        self.command(&["resize-window", "-x", columns, "-y", lines]).map(drop)
    }

    fn screen(&self) -> Result<String> {
        self.command(&["capture-pane", "-p"])
    }

    fn is_other_screen(&self) -> Result<bool> {
        Ok(self.command(&["display-message", "-p", "#{alternate_on}"])?.trim() == "1")
    }

    fn shows(&self, text: &str) -> Result<()> {
        self.until(text, |tmux| Ok(tmux.screen()?.contains(text)))
    }

    /// Asks until it is so; each question takes a process, so nothing spins.
    fn until(&self, what: &str, mut is_so: impl FnMut(&Self) -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        while !is_so(self)? {
            if begun.elapsed() > PATIENCE {
                bail!("no `{what}` within {} s:\n{}", PATIENCE.as_secs(), self.screen()?);
            }
        }
        Ok(())
    }

    /// Runs a command in the shell and `work` meanwhile, which ends it; then the terminal must be as before.
    fn during(
        &self,
        command: &str,
        exit: i32,
        work: impl FnOnce(&Self) -> Result<()>,
    ) -> Result<()> {
        let [before, after] = ["before", "after"].map(|name| self.dir.join(name));
        let script = self.dir.join("script");
        let line = format!(
            "clear; stty -a > {}; {command}\necho \"ended with $?\"\nstty -a > {}\necho all is over\n",
            shell_word(&before.to_string_lossy()),
            shell_word(&after.to_string_lossy())
        );
        fs::write(&script, line).context("cannot write a script")?;
        let run = format!(". {}", script.display());
        self.keys(&[&run, "Enter"])?;
        self.until("the other screen", |tmux| tmux.is_other_screen())?;
        work(self)?;
        self.shows("all is over")?;
        self.shows(&format!("ended with {exit}\n"))?;
        ensure!(!self.is_other_screen()?, "the shell is left on the other screen");
        let cursor = self.command(&["display-message", "-p", "#{cursor_flag}"])?;
        ensure!(cursor.trim() == "1", "the cursor is left hidden");
        let [before, after] = [&before, &after].map(fs::read_to_string);
        let (before, after) = (before?, after?);
        ensure!(before == after, "the terminal's modes were {before}and are {after}");
        Ok(())
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        // A server that is gone already is as well.
        let _ = self.command(&["kill-server"]);
        let _ = remove_dir_all(Path::new(&self.dir));
    }
}
