//! The end of compressed data (RFC 9580, 5.6): nothing may lie behind it.
//!
//! The parser reads a compressed packet as far as its stream goes and takes the rest for nothing. Whoever changes a
//! signature on its way could so hide something behind it, or make many of one.

use std::borrow::Cow;
use std::io::{self, Read};

use super::super::SignatureError;
use super::message::{MAX_CONTENT, MAX_NESTING, malformed};

/// Most that is unpacked: the content, and what lies around it.
const MAX_UNPACKED: u64 = MAX_CONTENT + (256 << 10);

/// Refuses bytes behind a compressed message, in its packet or after it, at every level.
pub(super) fn check_end(blob: &[u8]) -> Result<(), SignatureError> {
    let mut data = Cow::Borrowed(blob);
    for _ in 0..=MAX_NESTING {
        let Some(&tag) = data.first().filter(|tag| matches!(tag, 0xA0..=0xA3 | 0xC8)) else { return Ok(()) };
        let body = body(tag, data.get(1..).unwrap_or_default()).ok_or_else(behind)?;
        data = Cow::Owned(unpacked(&body)?);
    }
    Ok(())
}

/// The body of a packet that all of `rest` must belong to; `None` if something is left, or missing.
fn body(tag: u8, rest: &[u8]) -> Option<Cow<'_, [u8]>> {
    let whole = |length: usize, body: &'_ [u8]| body.len() == length;
    let number = |bytes: &[u8]| bytes.iter().fold(0_usize, |all, byte| (all << 8) | usize::from(*byte));
    if tag != 0xC8 {
        let width = match tag & 3 {
            // As long as there is data.
            3 => return Some(Cow::Borrowed(rest)),
            kind => 1 << kind,
        };
        let (length, body) = rest.split_at_checked(width)?;
        return whole(number(length), body).then_some(Cow::Borrowed(body));
    }
    let (mut joined, mut rest) = (Vec::new(), rest);
    loop {
        let (&first, behind) = rest.split_first()?;
        let (length, body) = match first {
            0..=191 => (usize::from(first), behind),
            192..=223 => {
                let (&second, behind) = behind.split_first()?;
                ((usize::from(first) - 192) * 256 + usize::from(second) + 192, behind)
            }
            224..=254 => {
                let (part, behind) = behind.split_at_checked(1 << (first & 0x1F))?;
                joined.extend_from_slice(part);
                rest = behind;
                continue;
            }
            255 => {
                let (length, behind) = behind.split_at_checked(4)?;
                (number(length), behind)
            }
        };
        joined.extend_from_slice(body);
        return whole(length, body).then_some(Cow::Owned(joined));
    }
}

/// What is in the stream, which must end where the body does.
fn unpacked(body: &[u8]) -> Result<Vec<u8>, SignatureError> {
    let (&algorithm, stream) = body.split_first().ok_or_else(behind)?;
    let mut out = Vec::new();
    let (read, rest) = match algorithm {
        0 => return Ok(stream.to_vec()),
        1 => {
            let mut decoder = flate2::bufread::DeflateDecoder::new(stream);
            (drain(&mut decoder, &mut out), decoder.into_inner())
        }
        2 => {
            let mut decoder = flate2::bufread::ZlibDecoder::new(stream);
            (drain(&mut decoder, &mut out), decoder.into_inner())
        }
        3 => {
            let mut decoder = bzip2::bufread::BzDecoder::new(stream);
            (drain(&mut decoder, &mut out), decoder.into_inner())
        }
        _ => return Err(malformed("compressed in an unsupported way")),
    };
    // The parser read the same before: a stream that is cut off behind the content is its to judge.
    if read.is_ok() && !rest.is_empty() { Err(behind()) } else { Ok(out) }
}

fn drain(decoder: impl Read, out: &mut Vec<u8>) -> io::Result<usize> {
    decoder.take(MAX_UNPACKED).read_to_end(out)
}

fn behind() -> SignatureError {
    malformed("data behind the compressed message")
}
