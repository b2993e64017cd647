//! The saboteur's crimes, as its table has them.

use std::collections::BTreeMap;

/// Of each crime: its rule, whether it needs FAILED, whether it may kill.
pub(crate) type Crimes = BTreeMap<String, (String, bool, bool)>;

/// From `CRIME(name, rule, MOMENT, …)`, which may go over two lines.
pub(crate) fn crimes_of_the_table(source: &str) -> Crimes {
    let rows = source.split("\tCRIME(").skip(1);
    let row = |row: &str| {
        let row = row.split_once("),").expect("a row ends").0;
        let mut words = row.split(',').map(str::trim);
        let name = words.next().expect("a name").to_owned();
        let rule = words.next().expect("a rule").to_owned();
        (name, (rule, row.contains("FAILED_KNOWN"), row.contains(".may_kill = true")))
    };
    rows.map(row).collect()
}
