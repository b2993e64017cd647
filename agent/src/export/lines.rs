//! An item as a line of JSON.

use super::Item;

/// One JSON object and a newline.
pub fn line(item: &Item) -> Vec<u8> {
    let mut line = serde_json::to_vec(item).expect("items have string keys and no floats");
    line.push(b'\n');
    line
}
