//! Protocol buffers, written: event files of TensorBoard and models of ONNX are made of them.

/// A message: its fields in the order in which they were added.
///
/// # Source
/// The encoding of protobuf.dev: a field is the key `number << 3 | kind` and a value; numbers are in groups of 7 bits, the low
/// ones first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message(Vec<u8>);

const NUMBER: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const LENGTH: u64 = 2;
const FOUR_BYTES: u64 = 5;

impl Message {
    /// A message without fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an integer, negative ones as their 64 bits, a truth value or a word of an enumeration.
    #[must_use]
    pub fn number(mut self, field: u32, value: i64) -> Self {
        self.varint(u64::from(field) << 3 | NUMBER);
        self.varint(value as u64);
        self
    }

    /// Adds a number of 32 bits.
    #[must_use]
    pub fn float(mut self, field: u32, value: f32) -> Self {
        self.varint(u64::from(field) << 3 | FOUR_BYTES);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Adds a number of 64 bits.
    #[must_use]
    pub fn double(mut self, field: u32, value: f64) -> Self {
        self.varint(u64::from(field) << 3 | EIGHT_BYTES);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Adds a text.
    #[must_use]
    pub fn text(self, field: u32, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    /// Adds a message within this one.
    #[must_use]
    pub fn message(self, field: u32, value: &Message) -> Self {
        self.bytes(field, &value.0)
    }

    /// Adds bytes as they are.
    #[must_use]
    pub fn bytes(self, field: u32, value: &[u8]) -> Self {
        let mut message = self.begin(field, value.len() as u64);
        message.0.extend(value);
        message
    }

    /// Adds the key of a text, message or bytes of this length, which are written behind the message.
    #[must_use]
    pub fn begin(mut self, field: u32, length: u64) -> Self {
        self.varint(u64::from(field) << 3 | LENGTH);
        self.varint(length);
        self
    }

    /// The message as it is written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_those_of_the_specification() {
        let inner = Message::new().number(1, 150);
        assert_eq!(inner.as_bytes(), [0x08, 0x96, 0x01]);
        assert_eq!(Message::new().message(3, &inner).as_bytes(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        assert_eq!(Message::new().text(2, "testing").as_bytes(), b"\x12\x07testing");
        let minus_two = [0x08, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(Message::new().number(1, -2).as_bytes(), minus_two);
        assert_eq!(Message::new().float(20, 1.0).as_bytes(), [0xa5, 0x01, 0, 0, 0x80, 0x3f]);
        assert_eq!(Message::new().double(1, -2.0).as_bytes(), [0x09, 0, 0, 0, 0, 0, 0, 0, 0xc0]);
        assert_eq!(Message::new().begin(7, 300).as_bytes(), [0x3a, 0xac, 0x02]);
    }
}
