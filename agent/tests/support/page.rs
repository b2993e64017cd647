//! Blocks of a page in `docs/` that tests make: compared, or with `ENDIOD_UPDATE=1` written.
//!
//! ````text
//!   <!-- begin NAME -->
//!   ```text
//!   …
//!   ```
//!   <!-- end NAME -->
//! ````

use std::{fs, path::Path, sync::Mutex};

/// The tests of one program run side by side.
static PAGE: Mutex<()> = Mutex::new(());

/// Is the block of that page what was made? `told` is how much of either counts.
#[track_caller]
pub(crate) fn check_block(page: &str, name: &str, made: &str, told: impl Fn(&str) -> String) {
    let _held = PAGE.lock();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let page = fs::read_to_string(&path).expect("the page is there");
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
    let (before, rest) = page.split_once(&begin).expect("the page has the block");
    let (found, after) = rest.split_once(&end).expect("the block ends");
    let made = format!("```text\n{}\n```\n", made.trim_end());
    if told(found) == told(&made) {
        return;
    }
    if std::env::var_os("ENDIOD_UPDATE").is_some() {
        fs::write(&path, format!("{before}{begin}{made}{end}{after}")).expect("it can be written");
        return;
    }
    let differs = found.lines().zip(made.lines()).find(|(found, made)| told(found) != told(made));
    panic!(
        "{} is out of date in block {name}, first at {differs:?}; after reading the difference: \
         ENDIOD_UPDATE=1 with the same test",
        path.display()
    );
}
