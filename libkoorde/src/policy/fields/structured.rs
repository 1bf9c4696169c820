//! Structured lists and dictionaries, RFC 9651 §3.1, §3.2 and §4.2, as far as
//! RFC 9213 and RFC 9875 need them: the whole grammar is checked, only bare items
//! are kept.

/// The value of a member. Parameters are checked and dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// At most 15 digits.
    Integer(i64),
    /// At most 12 digits, a point, at most 3 digits. Nobody here needs its value.
    Decimal,
    /// Without quotes and escapes.
    String(Vec<u8>),
    /// As it stands.
    Token(Vec<u8>),
    /// `?1` or `?0`; also the value of a member without `=`.
    Boolean(bool),
    /// A byte sequence, date, display string or inner list: never a cache directive.
    Other,
}

/// Reads a dictionary. `None` if anything at all is wrong with it: the
/// entire field is then ignored (RFC 9651 §4.2).
///
/// Of a repeated key the last value counts, in the place of the first.
pub fn dictionary(value: &[u8]) -> Option<Vec<(Vec<u8>, Item)>> {
    let mut input = Input(value);
    let mut members: Vec<(Vec<u8>, Item)> = Vec::new();
    input.skip(b" ");
    while !input.0.is_empty() {
        let key = input.key()?.to_vec();
        let item = match input.take(b'=') {
            Some(()) => input.item_or_inner_list()?,
            None => Item::Boolean(true),
        };
        input.parameters()?;
        match members.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => *known = item,
            None => members.push((key, item)),
        }
        input.skip(b" \t");
        if input.0.is_empty() {
            break;
        }
        input.take(b',')?;
        input.skip(b" \t");
        // A comma at the end is an error, unlike in other fields.
        if input.0.is_empty() {
            return None;
        }
    }
    Some(members)
}

/// Reads a list. `None` if anything at all is wrong with it: the entire field is
/// then ignored (RFC 9651 §4.2). Nothing at all is the empty list.
pub fn list(value: &[u8]) -> Option<Vec<Item>> {
    let mut input = Input(value);
    let mut members = Vec::new();
    input.skip(b" ");
    while !input.0.is_empty() {
        members.push(input.item_or_inner_list()?);
        input.parameters()?;
        input.skip(b" \t");
        if input.0.is_empty() {
            break;
        }
        input.take(b',')?;
        input.skip(b" \t");
        if input.0.is_empty() {
            return None;
        }
    }
    Some(members)
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn skip(&mut self, bytes: &[u8]) {
        while self.0.first().is_some_and(|byte| bytes.contains(byte)) {
            self.0 = &self.0[1..];
        }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        let (&first, rest) = self.0.split_first()?;
        (first == byte).then(|| self.0 = rest)
    }

    /// Takes bytes as long as they are wanted.
    fn run(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|&byte| !wanted(byte));
        let (run, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest;
        run
    }

    fn key(&mut self) -> Option<&'a [u8]> {
        let first = *self.0.first()?;
        let starts = first.is_ascii_lowercase() || first == b'*';
        starts.then(|| {
            self.run(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.*".contains(&b))
        })
    }

    fn parameters(&mut self) -> Option<()> {
        while self.take(b';').is_some() {
            self.skip(b" ");
            self.key()?;
            if self.take(b'=').is_some() {
                self.bare_item()?;
            }
        }
        Some(())
    }

    /// Inner lists do not nest, so there is no recursion to bound.
    fn item_or_inner_list(&mut self) -> Option<Item> {
        if self.take(b'(').is_none() {
            return self.bare_item();
        }
        loop {
            self.skip(b" ");
            if self.take(b')').is_some() {
                return Some(Item::Other);
            }
            self.bare_item()?;
            self.parameters()?;
            if !matches!(self.0.first(), Some(b' ' | b')')) {
                return None;
            }
        }
    }

    fn bare_item(&mut self) -> Option<Item> {
        match *self.0.first()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => self.string(),
            b'A'..=b'Z' | b'a'..=b'z' | b'*' => Some(self.token()),
            b':' => self.bytes(),
            b'?' => self.boolean(),
            b'@' => {
                self.take(b'@')?;
                matches!(self.number()?, Item::Integer(_)).then_some(Item::Other)
            }
            b'%' => self.display_string(),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<Item> {
        let sign = if self.take(b'-').is_some() { -1 } else { 1 };
        let whole = self.run(|b| b.is_ascii_digit());
        if whole.is_empty() {
            return None;
        }
        if self.take(b'.').is_some() {
            let fraction = self.run(|b| b.is_ascii_digit());
            let fits = whole.len() <= 12 && (1..=3).contains(&fraction.len());
            return fits.then_some(Item::Decimal);
        }
        if whole.len() > 15 {
            return None;
        }
        let value = whole
            .iter()
            .fold(0, |sum, b| sum * 10 + i64::from(b - b'0'));
        Some(Item::Integer(sign * value))
    }

    fn string(&mut self) -> Option<Item> {
        self.take(b'"')?;
        let mut text = Vec::new();
        loop {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            match byte {
                b'"' => return Some(Item::String(text)),
                b'\\' => {
                    let (&escaped, rest) = self.0.split_first()?;
                    self.0 = rest;
                    matches!(escaped, b'"' | b'\\').then(|| text.push(escaped))?;
                }
                0x20..=0x7e => text.push(byte),
                _ => return None,
            }
        }
    }

    fn token(&mut self) -> Item {
        let token = self.run(|b| super::list::is_token_byte(b) || matches!(b, b':' | b'/'));
        Item::Token(token.to_vec())
    }

    fn bytes(&mut self) -> Option<Item> {
        self.take(b':')?;
        let digits = self.run(|b| b.is_ascii_alphanumeric() || b"+/".contains(&b));
        // Missing padding and pad bits that are not zero are no errors (§4.2.7).
        let padding = self.run(|b| b == b'=');
        self.take(b':')?;
        let room = (4 - digits.len() % 4) % 4;
        (room < 3 && padding.len() <= room).then_some(Item::Other)
    }

    fn boolean(&mut self) -> Option<Item> {
        self.take(b'?')?;
        match self.take(b'1') {
            Some(()) => Some(Item::Boolean(true)),
            None => self.take(b'0').map(|()| Item::Boolean(false)),
        }
    }

    fn display_string(&mut self) -> Option<Item> {
        self.take(b'%')?;
        self.take(b'"')?;
        let mut text = Vec::new();
        loop {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            match byte {
                b'"' => return std::str::from_utf8(&text).ok().map(|_| Item::Other),
                b'%' => text.push(self.hex()? << 4 | self.hex()?),
                0x20..=0x7e => text.push(byte),
                _ => return None,
            }
        }
    }

    /// One hexadecimal digit, in lower case.
    fn hex(&mut self) -> Option<u8> {
        let (&digit, rest) = self.0.split_first()?;
        self.0 = rest;
        match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        }
    }
}
