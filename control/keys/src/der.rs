//! The little of DER (X.690) that certificates and requests need: a strict reader and a writer.
//!
//! The reader takes definite, minimally encoded lengths only and never looks past its slice. Bounds: input at most
//! [`DER_BYTES_MAX`]; nesting is the caller's, which is fixed.

/// Longest request or certificate that is read, in bytes.
pub const DER_BYTES_MAX: usize = 32 * 1024;

/// Tags that occur in X.509.
#[expect(missing_docs, reason = "the names are ASN.1's own")]
pub mod tag {
    pub const BOOLEAN: u8 = 0x01;
    pub const INTEGER: u8 = 0x02;
    pub const BIT_STRING: u8 = 0x03;
    pub const OCTET_STRING: u8 = 0x04;
    pub const OID: u8 = 0x06;
    pub const UTF8_STRING: u8 = 0x0c;
    pub const PRINTABLE_STRING: u8 = 0x13;
    pub const IA5_STRING: u8 = 0x16;
    pub const UTC_TIME: u8 = 0x17;
    pub const GENERALIZED_TIME: u8 = 0x18;
    pub const SEQUENCE: u8 = 0x30;
    pub const SET: u8 = 0x31;
}

/// What is wrong with the bytes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct BadDer(pub &'static str);

/// A cursor over a run of values.
#[derive(Copy, Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

/// One value: its tag, its content, and the whole of it as encoded.
#[derive(Copy, Clone, Debug)]
pub struct Element<'a> {
    /// The identifier octet (high-tag-number form is refused).
    pub tag: u8,
    /// What is inside.
    pub content: &'a [u8],
    /// Tag, length and content.
    pub whole: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The tag that comes next.
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next value, of any tag.
    pub fn any(&mut self) -> Result<Element<'a>, BadDer> {
        let short = BadDer("it ends early");
        let (&tag, after_tag) = self.rest.split_first().ok_or(short)?;
        if tag & 0x1f == 0x1f {
            return Err(BadDer("a tag number above 30"));
        }
        let (&first, after_first) = after_tag.split_first().ok_or(short)?;
        let (length, body) = if first < 0x80 {
            (usize::from(first), after_first)
        } else {
            let count = usize::from(first & 0x7f);
            if count == 0 || count > 3 {
                return Err(BadDer("an indefinite or huge length"));
            }
            let (digits, body) = after_first.split_at_checked(count).ok_or(short)?;
            let length = digits.iter().fold(0_usize, |sum, d| sum << 8 | usize::from(*d));
            if length < 0x80 || digits.first() == Some(&0) {
                return Err(BadDer("a length that is not minimal"));
            }
            (length, body)
        };
        let (content, rest) = body.split_at_checked(length).ok_or(short)?;
        let whole_len = self.rest.len() - rest.len();
        let (whole, _) = self.rest.split_at_checked(whole_len).ok_or(short)?;
        self.rest = rest;
        Ok(Element { tag, content, whole })
    }

    /// The next value, which must have this tag.
    pub fn expect(&mut self, tag: u8) -> Result<Element<'a>, BadDer> {
        let element = self.any()?;
        if element.tag == tag { Ok(element) } else { Err(BadDer("another type than expected")) }
    }

    /// The next value if it has this tag.
    pub fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, BadDer> {
        if self.peek() == Some(tag) { self.any().map(Some) } else { Ok(None) }
    }

    /// Refuses whatever is left.
    pub fn end(self) -> Result<(), BadDer> {
        if self.rest.is_empty() { Ok(()) } else { Err(BadDer("something after its end")) }
    }
}

impl<'a> Element<'a> {
    /// A cursor over what is inside.
    pub fn inside(&self) -> Reader<'a> {
        Reader::new(self.content)
    }

    /// The octets of a BIT STRING without unused bits.
    pub fn bits(&self) -> Result<&'a [u8], BadDer> {
        match self.content.split_first() {
            Some((0, bits)) => Ok(bits),
            _ => Err(BadDer("a bit string that is not whole octets")),
        }
    }
}

/// Encodes one value.
pub fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 5);
    out.push(tag);
    let length = content.len();
    let bytes = length.to_be_bytes();
    if length < 0x80 {
        out.extend(bytes.last());
    } else {
        let significant = bytes.iter().skip_while(|b| **b == 0);
        let count = u8::try_from(significant.clone().count()).expect("a usize has 8 octets");
        out.push(0x80 | count);
        out.extend(significant);
    }
    out.extend_from_slice(content);
    out
}

/// Encodes a value whose content is these values one after the other.
pub fn nest(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    value(tag, &parts.concat())
}

/// Encodes a non-negative INTEGER from big-endian octets.
pub fn integer(magnitude: &[u8]) -> Vec<u8> {
    let mut digits: Vec<u8> = magnitude.iter().copied().skip_while(|b| *b == 0).collect();
    if digits.first().is_none_or(|first| *first >= 0x80) {
        digits.insert(0, 0);
    }
    value(tag::INTEGER, &digits)
}

/// Encodes a BIT STRING of whole octets.
pub fn bit_string(octets: &[u8]) -> Vec<u8> {
    nest(tag::BIT_STRING, &[&[0], octets])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 1, 127, 128, 255, 256, 65_536] {
            let content = vec![7; length];
            let bytes = value(tag::OCTET_STRING, &content);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.expect(tag::OCTET_STRING).unwrap().content, content);
            reader.end().unwrap();
        }
    }

    #[test]
    fn strictness() {
        let check = |bytes: &[u8], want: &str| {
            assert_eq!(Reader::new(bytes).any().unwrap_err(), BadDer(want.to_owned().leak()));
        };
        check(&[], "it ends early");
        check(&[0x30], "it ends early");
        check(&[0x30, 2, 0], "it ends early");
        check(&[0x30, 0x80, 0, 0], "an indefinite or huge length");
        check(&[0x30, 0x84, 1, 1, 1, 1], "an indefinite or huge length");
        check(&[0x30, 0x81, 5, 0, 0, 0, 0, 0], "a length that is not minimal");
        check(&[0x30, 0x82, 0, 200], "a length that is not minimal");
        check(&[0x3f, 0x81, 5], "a tag number above 30");
    }

    #[test]
    fn integers_stay_positive() {
        assert_eq!(integer(&[0, 0, 0x80]), [2, 2, 0, 0x80]);
        assert_eq!(integer(&[0x7f]), [2, 1, 0x7f]);
        assert_eq!(integer(&[]), [2, 1, 0]);
    }
}
