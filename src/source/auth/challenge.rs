//! `WWW-Authenticate` (RFC 9110 section 11.6.1): several headers, several challenges in each.

use http::{HeaderMap, header};

const MAX_CHALLENGES: usize = 16;
const MAX_PARAMETERS: usize = 32;

/// One challenge; names are lower-case, of equal names the first counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// All challenges of an answer. What cannot be read is left out, the rest of its header with it.
pub(super) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let texts = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok());
    texts.flat_map(parse).take(MAX_CHALLENGES).collect()
}

fn parse(text: &str) -> Vec<Challenge> {
    let mut out: Vec<Challenge> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = take_token(rest);
        if word.is_empty() || out.len() > MAX_CHALLENGES {
            return out;
        }
        let value = after.trim_start_matches([' ', '\t']).strip_prefix('=');
        let Some((value, challenge)) = value.zip(out.last_mut()) else {
            out.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
            rest = skip_token68(after);
            continue;
        };
        let Some((value, after)) = take_value(value.trim_start_matches([' ', '\t'])) else { return out };
        if challenge.parameters.len() < MAX_PARAMETERS {
            challenge.parameters.push((word.to_ascii_lowercase(), value));
        }
        rest = after;
    }
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

fn take_token(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|b| !is_token(b)).unwrap_or(text.len());
    text.split_at(end)
}

/// After a scheme: skips one opaque token (`Negotiate abc/d==`), which has no value and ends at a comma or the end.
fn skip_token68(text: &str) -> &str {
    let start = text.trim_start_matches([' ', '\t']);
    let (token, after) = start.split_at(start.find([',', ' ', '\t', '"']).unwrap_or(start.len()));
    let body = token.trim_end_matches('=');
    let opaque = !body.contains('=') && (after.is_empty() || after.trim_start().starts_with(','));
    // `realm=` with nothing behind it is a parameter without a value; it is skipped alike.
    if opaque { after } else { text }
}

/// A token or a quoted string with its escapes undone.
fn take_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        // Registries leave URLs unquoted, too, so everything up to a comma or blank counts.
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, after) = text.split_at(end);
        return Some((value.to_owned(), after));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Some((value, quoted.get(i + 1..).unwrap_or_default())),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::WWW_AUTHENTICATE, value.parse().expect("header"));
        }
        let show = |c: &Challenge| {
            let parameters: Vec<_> = c.parameters.iter().map(|(n, v)| format!("{n}={v}")).collect();
            format!("{} {}", c.scheme, parameters.join("|")).trim_end().to_owned()
        };
        challenges(&headers).iter().map(show).collect()
    }

    #[test]
    fn g18_reads_several_challenges_in_one_or_many_headers() {
        let bearer = r#"Bearer realm="https://a.example/t",service="a.example",scope="repository:x/y:pull,push""#;
        let read_bearer = "bearer realm=https://a.example/t|service=a.example|scope=repository:x/y:pull,push";
        assert_eq!(read(&[bearer]), [read_bearer]);
        assert_eq!(read(&["Basic realm=\"r\"", bearer]), ["basic realm=r", read_bearer]);
        assert_eq!(read(&[&format!("Basic realm=\"r\", {bearer}")]), ["basic realm=r", read_bearer]);
        assert_eq!(read(&[&format!("Negotiate, {bearer}, Basic")]), ["negotiate", read_bearer, "basic"]);
        assert_eq!(read(&[&format!("Negotiate ab/c+d==, {bearer}")]), ["negotiate", read_bearer]);
        assert_eq!(read(&[r#"BEARER Realm = "q\"uo\\te" , SERVICE=s"#]), [r#"bearer realm=q"uo\te|service=s"#]);
        assert_eq!(
            read(&["bearer realm=https://a.example/t?x=1,service=s"]),
            ["bearer realm=https://a.example/t?x=1|service=s"]
        );
    }

    #[test]
    fn reads_nothing_from_what_is_no_challenge() {
        for bad in ["", ",,,", "\"x\"", "=x", "Bearer realm=\"open", "Bearer realm=\"open\\"] {
            let found = read(&[bad]);
            assert!(found.iter().all(|c| c == "bearer"), "{bad}: {found:?}");
        }
        let many = "Basic, ".repeat(1000);
        assert_eq!(read(&[&many]).len(), MAX_CHALLENGES);
        let parameters = format!("Bearer {}", "a=b, ".repeat(1000));
        assert_eq!(read(&[&parameters])[0].matches("a=b").count(), MAX_PARAMETERS);
    }
}
