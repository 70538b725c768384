//! Framing of a JSON array that comes in pieces: what `streamGenerateContent` answers without `alt=sse`.

/// Cuts the objects out of an array, or out of texts that follow each other.
#[derive(Debug, Default)]
pub(super) struct Objects {
    rest: Vec<u8>,
    /// How far `rest` has been searched.
    position: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Objects {
    /// Takes the next bytes and hands out each object that they complete, until `on_object` fails. Returns false if
    /// more than `limit` bytes wait for their end.
    pub(super) fn feed<E>(
        &mut self,
        bytes: &[u8],
        limit: usize,
        mut on_object: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        self.rest.extend_from_slice(bytes);
        let mut start = 0;
        while self.position < self.rest.len() {
            let byte = self.rest[self.position];
            self.position += 1;
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' if self.depth > 0 => self.in_string = true,
                b'{' => {
                    if self.depth == 0 {
                        start = self.position - 1;
                    }
                    self.depth += 1;
                }
                b'}' if self.depth > 0 => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        on_object(&self.rest[start..self.position])?;
                        start = self.position;
                    }
                }
                // Between objects: brackets, commas, white space.
                _ if self.depth == 0 => start = self.position,
                _ => {}
            }
        }
        self.rest.drain(..start);
        self.position -= start;
        Ok(self.rest.len() <= limit)
    }

    /// Tells whether no object is waiting for its end.
    pub(super) const fn is_between(&self) -> bool {
        self.depth == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_however_the_bytes_are_split() {
        let text = br#"[{"a":"}\"{","b":{"c":[1]}}
,
 {"d":"\\"}]"#;
        for size in 1..=text.len() {
            let mut objects = Objects::default();
            let mut found = Vec::new();
            for piece in text.chunks(size) {
                let within = objects.feed(piece, 1000, |object| {
                    found.push(String::from_utf8_lossy(object).into_owned());
                    Ok::<(), ()>(())
                });
                assert_eq!(within, Ok(true));
            }
            assert_eq!(found, [r#"{"a":"}\"{","b":{"c":[1]}}"#, r#"{"d":"\\"}"#], "{size}");
            assert!(objects.is_between());
        }
    }

    #[test]
    fn an_object_that_does_not_end_is_limited() {
        let mut objects = Objects::default();
        assert_eq!(objects.feed(b"{\"aaaaaaaa", 5, |_| Ok::<(), ()>(())), Ok(false));
        assert!(!objects.is_between());
    }
}
