//! A look at a client's `multipart/form-data` body (RFC 7578): audio uploads.

use std::ops::Range;

use bytes::{BufMut as _, Bytes, BytesMut};
use memchr::memmem;

use crate::request::Invalid;

/// A client's multipart body: its `model` and `stream` fields and where they stand.
#[derive(Debug)]
pub struct MultipartRequest {
    body: Bytes,
    model: Option<String>,
    model_span: Option<Range<usize>>,
    /// Where a new part may be put: the start of the first delimiter, and the boundary.
    first_delimiter: usize,
    boundary: String,
    stream: bool,
}

impl MultipartRequest {
    /// Looks at a body of the media type `content_type`.
    ///
    /// # Errors
    /// [`Invalid`] if that is no `multipart/form-data` with a boundary, the body has no parts, or `model` is there
    /// twice or is no text.
    pub fn look(body: Bytes, content_type: &str) -> Result<Self, Invalid> {
        let fault = |message: &str| Invalid { param: None, message: message.into() };
        let boundary = boundary(content_type)
            .ok_or_else(|| fault("the content type must be multipart/form-data with a boundary"))?;
        let delimiter = format!("--{boundary}");
        let finder = memmem::Finder::new(delimiter.as_bytes());
        // A delimiter has a line of its own; only white space may follow it (RFC 2046, 5.1.1).
        let is_delimiter = |&at: &usize| {
            let after = &body[at + delimiter.len()..];
            let after = after.strip_prefix(b"--").unwrap_or(after);
            let blank = after.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            let rest = &after[blank..];
            (at == 0 || body[..at].ends_with(b"\n"))
                && (rest.is_empty() || rest.starts_with(b"\r\n"))
        };
        let starts: Vec<usize> = finder.find_iter(&body).filter(is_delimiter).collect();
        let first_delimiter = *starts.first().ok_or_else(|| fault("the body has no parts"))?;

        let mut found = Self {
            model: None,
            model_span: None,
            first_delimiter,
            boundary,
            stream: false,
            body: body.clone(),
        };
        for pair in starts.windows(2) {
            let part = pair[0] + delimiter.len()..pair[1];
            found.part(&body, part)?;
        }
        Ok(found)
    }

    fn part(&mut self, body: &[u8], part: Range<usize>) -> Result<(), Invalid> {
        // Somebody more tolerant might read a field where we see none.
        let message = "a part of the body has no head that ends with an empty line";
        let head_length = memmem::find(&body[part.clone()], b"\r\n\r\n")
            .ok_or_else(|| Invalid { param: None, message: message.into() })?;
        let head =
            String::from_utf8_lossy(&body[part.start..part.start + head_length]).into_owned();
        let value = part.start + head_length + 4
            ..part.end.saturating_sub(2).max(part.start + head_length + 4);
        match field_name(&head).as_deref() {
            Some("model") => {
                if self.model_span.is_some() {
                    return Err(Invalid::field("model", "`model` is given twice"));
                }
                let text = std::str::from_utf8(&body[value.clone()])
                    .map_err(|_| Invalid::field("model", "`model` must be text"))?;
                self.model = Some(text.to_owned());
                self.model_span = Some(value);
            }
            Some("stream") => self.stream = &body[value] == b"true",
            _ => {}
        }
        Ok(())
    }

    /// Returns the model asked for.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Tells whether a stream is asked for.
    pub const fn stream(&self) -> bool {
        self.stream
    }

    /// Returns the body as it came.
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// Returns the body with the name that the vendor knows the model by, and nothing else changed.
    pub fn edited(&self, model: &str) -> Bytes {
        if self.model.as_deref() == Some(model) {
            return self.body.clone();
        }
        let mut out = BytesMut::with_capacity(self.body.len() + model.len() + 128);
        if let Some(span) = &self.model_span {
            out.put_slice(&self.body[..span.start]);
            out.put_slice(model.as_bytes());
            out.put_slice(&self.body[span.end..]);
        } else {
            let (before, after) = self.body.split_at(self.first_delimiter);
            out.put_slice(before);
            let head = "Content-Disposition: form-data; name=\"model\"";
            out.put_slice(format!("--{}\r\n{head}\r\n\r\n{model}\r\n", self.boundary).as_bytes());
            out.put_slice(after);
        }
        out.freeze()
    }
}

/// Reads the boundary out of a content type.
fn boundary(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    parameter(parameters, "boundary").filter(|boundary| !boundary.is_empty())
}

/// Reads the field name out of a part's head.
fn field_name(head: &str) -> Option<String> {
    head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        if !name.trim().eq_ignore_ascii_case("content-disposition") {
            return None;
        }
        parameter(value.split_once(';')?.1, "name")
    })
}

/// Finds `name=value` or `name="value"` among parameters separated by semicolons.
fn parameter(parameters: &str, name: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        let (key, after) = rest.split_once('=')?;
        let key = key.trim_start_matches([';', ' ', '\t']).trim();
        let (value, next) = if let Some(quoted) = after.strip_prefix('"') {
            let end = quoted.find('"')?;
            (&quoted[..end], &quoted[end + 1..])
        } else {
            let end = after.find(';').unwrap_or(after.len());
            (after[..end].trim(), &after[end..])
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(value.to_owned());
        }
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=\"x y\"";

    fn body(model: &str) -> String {
        format!(
            "--x y\r\nContent-Disposition: form-data; filename=\"model.wav\"; name=\"file\"\r\nContent-Type: audio/wav\r\n\r\n\
             --x yyy not a delimiter? --x y\0\r\n{model}--x y\r\ncontent-disposition: form-data; name=stream\r\n\r\ntrue\r\n--x y--\r\n"
        )
    }

    fn model_part(name: &str) -> String {
        format!("--x y\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{name}\r\n")
    }

    #[test]
    fn the_model_is_found_and_replaced_and_nothing_else() {
        let request =
            MultipartRequest::look(body(&model_part("whisper-1")).into(), TYPE).expect("valid");
        assert_eq!(request.model(), Some("whisper-1"));
        assert!(request.stream());
        assert_eq!(request.edited("w"), body(&model_part("w")));
        assert_eq!(request.edited("whisper-1").as_ptr(), request.body().as_ptr());
    }

    #[test]
    fn a_missing_model_becomes_a_new_first_part() {
        let request = MultipartRequest::look(body("").into(), TYPE).expect("valid");
        assert_eq!(request.model(), None);
        let again = MultipartRequest::look(request.edited("m"), TYPE).expect("valid");
        assert_eq!(again.model(), Some("m"));
        assert!(again.edited("m").ends_with(body("").as_bytes()));
    }

    #[test]
    fn faults_are_told() {
        let twice = body(&(model_part("a") + &model_part("b")));
        let error = MultipartRequest::look(twice.into(), TYPE).expect_err("twice");
        assert_eq!(error.param, Some("model"));
        for (body, kind) in
            [("", TYPE), ("--x y--", "application/json"), ("x", "multipart/form-data")]
        {
            MultipartRequest::look(body.into(), kind).expect_err(kind);
        }
    }
}
