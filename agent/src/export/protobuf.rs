//! As much of the protobuf wire format as a Perfetto trace needs: varints, fixed words, and fields that
//! hold bytes or another message.
//!
//! A message is built in memory and its length is written before it. It must never know a schema.

/// A message, field by field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    bytes: Vec<u8>,
}

const VARINT: u32 = 0;
const FIXED_64: u32 = 1;
const BYTES: u32 = 2;

impl Message {
    /// An integer, a boolean or an enum.
    pub(super) fn uint(&mut self, field: u32, value: u64) -> &mut Self {
        self.tag(field, VARINT);
        self.varint(value);
        self
    }

    /// A `fixed64`.
    pub(super) fn fixed(&mut self, field: u32, value: u64) -> &mut Self {
        self.tag(field, FIXED_64);
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// A string.
    pub(super) fn text(&mut self, field: u32, text: &str) -> &mut Self {
        self.block(field, text.as_bytes())
    }

    /// A message inside of this one.
    pub(super) fn message(&mut self, field: u32, message: &Message) -> &mut Self {
        self.block(field, &message.bytes)
    }

    /// The message as it is written.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn block(&mut self, field: u32, bytes: &[u8]) -> &mut Self {
        self.tag(field, BYTES);
        self.varint(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
        self
    }

    fn tag(&mut self, field: u32, kind: u32) {
        self.varint(u64::from(field) << 3 | u64::from(kind));
    }

    /// Seven bits a byte, the lowest first; the top bit says that more follow.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::Message;

    /// The examples of the encoding's own documentation, and the edges of a varint.
    #[test]
    fn fields_are_written_as_the_format_has_them() {
        let mut message = Message::default();
        message.uint(1, 150);
        assert_eq!(message.bytes(), [0x08, 0x96, 0x01]);
        let mut outer = Message::default();
        outer.text(2, "testing").message(3, &message);
        let text = [&[0x12, 0x07][..], b"testing", &[0x1a, 0x03, 0x08, 0x96, 0x01]].concat();
        assert_eq!(outer.bytes(), text);
        let mut edges = Message::default();
        edges.uint(1, 0).uint(1, 127).uint(1, 128).uint(1, u64::MAX).fixed(47, 1);
        let expected = [
            &[0x08, 0x00, 0x08, 0x7f, 0x08, 0x80, 0x01][..],
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0xf9, 0x02, 1, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(edges.bytes(), expected.concat());
    }
}
