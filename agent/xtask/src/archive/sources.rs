//! Where this machine gets its packages from: reads apt's own sources, one-line and deb822, and
//! makes from them the sources of another release at the same mirror.
//!
//! No mirror is named in this tree: a machine behind a mirror of its own stays behind it.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Result, bail};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Suites that say that an entry is Debian itself.
const RELEASES: &[&str] = &[
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

/// One entry of apt's sources, per address and suite.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Source {
    uri: String,
    suite: String,
    has_main: bool,
    /// A keyring's path; keys written into the entry are not kept.
    keyring: Option<String>,
}

/// The addresses of the archive and of its security updates.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Mirrors {
    archive: String,
    security: String,
    keyring: Option<String>,
}

impl Mirrors {
    pub(super) fn of_this_machine() -> Result<Self> {
        let mut files = vec![Path::new("/etc/apt/sources.list").to_owned()];
        if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
            let mut parts: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
            parts.sort();
            files.extend(parts);
        }
        let mut sources = Vec::new();
        for file in files {
            let text = fs::read_to_string(&file).unwrap_or_default();
            match file.extension().and_then(|extension| extension.to_str()) {
                Some("list") => sources.extend(one_line_entries(&text)),
                Some("sources") => sources.extend(deb822_entries(&text)),
                _ => {}
            }
        }
        Self::choose(&sources)
    }

    /// The text of a `sources.list` for a release at these mirrors.
    pub(super) fn list(&self, codename: &str, suites: &[&str]) -> String {
        let keyring = self.keyring.as_ref().map(|path| format!(" signed-by={path}"));
        let mut list = String::new();
        for suite in [codename].iter().chain(suites) {
            let is_security = suite.ends_with("-security");
            let uri = if is_security { &self.security } else { &self.archive };
            let options = format!("check-valid-until=no{}", keyring.as_deref().unwrap_or_default());
            writeln!(list, "deb [{options}] {uri} {suite} main").expect("a String takes all text");
        }
        list
    }

    fn choose(sources: &[Source]) -> Result<Self> {
        let pick = |wanted: fn(&str) -> bool| {
            let fits = |source: &&Source| source.has_main && wanted(&source.suite);
            let candidates = || sources.iter().filter(fits);
            // Vendors use Debian's suite names too; the archive's own path says `debian`.
            candidates().find(|source| names_debian(&source.uri)).or_else(|| candidates().next())
        };
        let Some(archive) = pick(|suite| RELEASES.contains(&suite)) else {
            bail!(
                "found no Debian archive in /etc/apt/sources.list and sources.list.d: \
                 set-up takes QEMU and kernels from the mirror that apt uses"
            );
        };
        let is_security = |suite: &str| suite.ends_with("-security") || suite.ends_with("/updates");
        let security = pick(is_security).map_or_else(
            || format!("{}-security", archive.uri.trim_end_matches('/')),
            |source| source.uri.clone(),
        );
        let default = Path::new(KEYRING).exists().then(|| KEYRING.to_owned());
        let keyring = archive.keyring.clone().or(default);
        Ok(Self { archive: archive.uri.clone(), security, keyring })
    }
}

/// Whether a part of the path is `debian` or begins with `debian-` or `debian.`.
fn names_debian(uri: &str) -> bool {
    let path = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    path.split('/').skip(1).any(|part| {
        part.strip_prefix("debian")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.']))
    })
}

/// `deb [options] uri suite component…`
fn one_line_entries(text: &str) -> Vec<Source> {
    let entry = |line: &str| {
        let line = line.split('#').next()?.trim();
        let rest = line.strip_prefix("deb")?;
        let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(bracketed) => bracketed.split_once(']')?,
            None => ("", rest),
        };
        let keyring = options.split_whitespace().find_map(|o| o.strip_prefix("signed-by="));
        let mut words = rest.split_whitespace();
        Some(Source {
            uri: words.next()?.to_owned(),
            suite: words.next()?.to_owned(),
            has_main: words.any(|component| component == "main"),
            keyring: keyring.filter(|path| path.starts_with('/')).map(str::to_owned),
        })
    };
    text.lines().filter_map(entry).collect()
}

/// Stanzas of `Field: value`, continued on lines that begin with a blank.
fn deb822_entries(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let uncommented = text.lines().filter(|line| !line.starts_with('#'));
    for stanza in uncommented.collect::<Vec<_>>().split(|line| line.trim().is_empty()) {
        let fields = fields_of(stanza);
        let field = |name: &str| {
            let found = fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map_or("", |(_, value)| value.as_str())
        };
        let is_deb = field("Types").split_whitespace().any(|kind| kind == "deb");
        if !is_deb || field("Enabled").eq_ignore_ascii_case("no") {
            continue;
        }
        let keyring = Some(field("Signed-By").trim()).filter(|path| path.starts_with('/'));
        for uri in field("URIs").split_whitespace() {
            for suite in field("Suites").split_whitespace() {
                sources.push(Source {
                    uri: uri.to_owned(),
                    suite: suite.to_owned(),
                    has_main: field("Components").split_whitespace().any(|c| c == "main"),
                    keyring: keyring.map(str::to_owned),
                });
            }
        }
    }
    sources
}

fn fields_of(stanza: &[&str]) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in stanza {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line.trim());
            }
        } else if let Some((key, value)) = line.split_once(':') {
            fields.push((key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(sources: &[Source], archive: &str, security: &str) {
        let mirrors = Mirrors::choose(sources).unwrap();
        assert_eq!((mirrors.archive.as_str(), mirrors.security.as_str()), (archive, security));
    }

    #[test]
    fn deb822_with_comments_and_two_stanzas_is_read() {
        let text = "Types: deb\n# https://old.example/debian\nURIs: https://m.example/debian\n\
                    Suites: bookworm bookworm-updates\nComponents: main\n\
                    Signed-By: /usr/share/keyrings/k.gpg\n\nTypes: deb deb-src\n\
                    URIs: https://m.example/debian-security\nSuites: bookworm-security\n\
                    Components: main contrib\n";
        let sources = deb822_entries(text);
        assert_eq!(sources.len(), 3);
        assert_eq!(sources[0].keyring.as_deref(), Some("/usr/share/keyrings/k.gpg"));
        check(&sources, "https://m.example/debian", "https://m.example/debian-security");
    }

    #[test]
    fn a_disabled_stanza_and_one_of_sources_only_do_not_count() {
        let text = "Enabled: no\nTypes: deb\nURIs: https://a.example/debian\nSuites: sid\n\
                    Components: main\n\nTypes: deb-src\nURIs: https://b.example/debian\n\
                    Suites: sid\nComponents: main\n";
        assert_eq!(deb822_entries(text), []);
    }

    #[test]
    fn a_key_inside_the_entry_is_not_taken_for_a_path() {
        let text = "Types: deb\nURIs: https://a.example/debian\nSuites: sid\nComponents: main\n\
                    Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n";
        assert_eq!(deb822_entries(text)[0].keyring, None);
    }

    #[test]
    fn one_line_entries_with_options_and_comments_are_read() {
        let text = "# deb https://no.example/debian bookworm main\n\
                    deb-src https://m.example/debian bookworm main\n\
                    deb [arch=amd64 signed-by=/k.gpg] https://m.example/debian/ bookworm main # x\n\
                    deb\thttps://m.example/debian-security bookworm-security main contrib\n";
        let sources = one_line_entries(text);
        assert_eq!(sources.len(), 2);
        assert_eq!(sources[0].keyring.as_deref(), Some("/k.gpg"));
        check(&sources, "https://m.example/debian/", "https://m.example/debian-security");
    }

    #[test]
    fn a_vendor_with_debian_suite_names_is_not_the_archive() {
        let text = "deb https://vendor.example/php bookworm main\n\
                    deb https://m.example/debian bookworm main\n";
        let sources = one_line_entries(text);
        check(&sources, "https://m.example/debian", "https://m.example/debian-security");
    }

    #[test]
    fn a_mirror_list_of_a_cloud_image_is_kept_as_it_is() {
        let text = "Types: deb\nURIs: mirror+file:///etc/apt/mirrors/debian.list\n\
                    Suites: bookworm bookworm-backports\nComponents: main\n\nTypes: deb\n\
                    URIs: mirror+file:///etc/apt/mirrors/debian-security.list\n\
                    Suites: bookworm-security\nComponents: main\n";
        check(
            &deb822_entries(text),
            "mirror+file:///etc/apt/mirrors/debian.list",
            "mirror+file:///etc/apt/mirrors/debian-security.list",
        );
    }

    #[test]
    fn without_any_archive_the_error_says_where_it_was_sought() {
        let error = Mirrors::choose(&[]).unwrap_err().to_string();
        assert!(error.contains("/etc/apt/sources.list"), "{error}");
    }

    #[test]
    fn security_suites_come_from_the_security_address() {
        let mirrors = Mirrors {
            archive: "https://m.example/debian".into(),
            security: "https://s.example/debian-security".into(),
            keyring: None,
        };
        let list = mirrors.list("bullseye", &["bullseye-updates", "bullseye-security"]);
        let expected = "deb [check-valid-until=no] https://m.example/debian bullseye main\n\
             deb [check-valid-until=no] https://m.example/debian bullseye-updates main\n\
             deb [check-valid-until=no] https://s.example/debian-security bullseye-security main\n";
        assert_eq!(list, expected);
    }
}
