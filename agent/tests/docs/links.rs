//! Links between pages: the file is there, and so is the heading.

use std::{collections::BTreeSet, path::Path};

use crate::pages::{Page, pages};

/// The name by which a heading is linked to, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let heading = heading.trim().to_lowercase();
    let kept = heading.chars().filter(|it| it.is_alphanumeric() || [' ', '-', '_'].contains(it));
    kept.map(|it| if it == ' ' { '-' } else { it }).collect()
}

/// Every heading of a page; of two that are alike the second is numbered.
fn anchors(page: &Page) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let prose = page.prose();
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    for heading in headings.map(|line| anchor(line.trim_start_matches('#'))) {
        let numbered = (1..).map(|number| format!("{heading}-{number}"));
        let free =
            std::iter::once(heading.clone()).chain(numbered).find(|it| !anchors.contains(it));
        anchors.insert(free.expect("numbers do not end"));
    }
    anchors
}

/// What a page's links lead to, code left out.
fn targets(page: &Page) -> Vec<String> {
    let prose = page.prose();
    let text: String = prose.split('`').step_by(2).collect();
    let links = text.split("](").skip(1);
    links.filter_map(|rest| Some(rest.split(')').next()?.trim().to_owned())).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let root = super::root();
    let pages = pages(&root);
    let mut followed = 0;
    for page in &pages {
        let dir = Path::new(&page.name).parent().expect("a page lies in a directory");
        for target in targets(page).iter().filter(|it| !it.contains("://")) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let name = if file.is_empty() { Path::new(&page.name).into() } else { dir.join(file) };
            let path = root.join(name);
            assert!(path.exists(), "{}: nothing is at {target}", page.name);
            if !heading.is_empty() {
                let path = path.canonicalize().expect("it is there");
                let is_it =
                    |it: &&Page| root.join(&it.name).canonicalize().ok() == Some(path.clone());
                let linked = pages.iter().find(is_it);
                let linked = linked.unwrap_or_else(|| panic!("{}: {target}: no page", page.name));
                assert!(anchors(linked).contains(heading), "{}: no heading {target}", page.name);
            }
            followed += 1;
        }
    }
    assert!(followed > 50, "only {followed} links were found");
}

#[test]
fn anchors_are_those_of_github() {
    assert_eq!(anchor(" Unlocked `flag` writes, in 2.1"), "unlocked-flag-writes-in-21");
    let page = Page { name: String::new(), text: "# A b\n```\n# no\n```\n## A b\n".to_owned() };
    assert_eq!(anchors(&page), ["a-b", "a-b-1"].map(str::to_owned).into());
}
