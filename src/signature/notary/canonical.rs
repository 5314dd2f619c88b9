//! The bytes that Notary signs: JSON with sorted members, no blanks and as few escapes as possible.

use crate::signature::SignatureError;
use crate::signature::json::{Json, malformed};

/// Writes a value as Notary's encoder does: quotes and backslashes are escaped, and so are the two separators U+2028 and
/// U+2029; everything else stands for itself. Members are in the order of their UTF-8 bytes. Numbers are whole.
pub(super) fn write(value: &Json) -> Result<Vec<u8>, SignatureError> {
    let mut out = Vec::new();
    append(value, &mut out)?;
    Ok(out)
}

/// The depth of the value was bounded when it was read.
fn append(value: &Json, out: &mut Vec<u8>) -> Result<(), SignatureError> {
    match value {
        Json::Null => out.extend_from_slice(b"null"),
        Json::Flag(flag) => out.extend_from_slice(if *flag { b"true" } else { b"false" }),
        Json::Integer(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Json::Text(text) => append_text(text, out),
        Json::List(list) => {
            out.push(b'[');
            for (i, item) in list.iter().enumerate() {
                separate(i, out);
                append(item, out)?;
            }
            out.push(b']');
        }
        Json::Object(members) => {
            out.push(b'{');
            for (i, (name, value)) in members.iter().enumerate() {
                separate(i, out);
                append_text(name, out);
                out.push(b':');
                append(value, out)?;
            }
            out.push(b'}');
        }
        Json::Other => return Err(malformed("a number that is not whole, or too large")),
    }
    Ok(())
}

fn separate(position: usize, out: &mut Vec<u8>) {
    if position > 0 {
        out.push(b',');
    }
}

fn append_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
            '\u{2028}' => out.extend_from_slice(br"\u2028"),
            '\u{2029}' => out.extend_from_slice(br"\u2029"),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::json::parse;

    fn canonical(text: &str) -> Result<String, SignatureError> {
        let value = parse(text.as_bytes(), 1 << 16, "it")?;
        write(&value).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn writes_what_the_encoder_of_notary_writes() {
        for (text, written) in [
            (r#" { "b" : [ 1 , -2, true, false, null ] , "a" : { } } "#, r#"{"a":{},"b":[1,-2,true,false,null]}"#),
            (r#"{"aa":1,"a":1,"B":1,"é":1,"~":1}"#, r#"{"B":1,"a":1,"aa":1,"~":1,"é":1}"#),
            (r#""\"\\\/\u00e9\ud83d\ude00<>&""#, r#""\"\\/é😀<>&""#),
            ("\"\\n\\t\\u0001\\u007f\"", "\"\n\t\u{1}\u{7f}\""),
            (r#""\u2028\u2029""#, r#""\u2028\u2029""#),
        ] {
            assert_eq!(canonical(text).unwrap(), written, "{text}");
        }
    }

    #[test]
    fn refuses_numbers_that_have_more_than_one_spelling() {
        for text in ["1.5", "[1e3]", r#"{"a":18446744073709551615}"#, "1.0"] {
            assert!(canonical(text).is_err(), "{text}");
        }
    }
}
