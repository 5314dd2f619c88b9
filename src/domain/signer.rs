//! Whether a listed signer made a signature.

/// The holder of an `OpenPGP` certificate as policies can name him.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GpgSigner {
    /// The primary key's fingerprint, upper-case hexadecimal.
    pub fingerprint: String,
    /// The key file's name (the Secret's data key), such as `group1.pgp`.
    pub file: String,
    /// Addresses of valid User IDs that no certificate of another key file carries, lower case.
    pub emails: Vec<String>,
}

impl GpgSigner {
    /// Whether one entry of a policy's `signer` list names this holder.
    ///
    /// The text of the entry alone says which kind of name it is: a key file that is called like a fingerprint or like
    /// an address gains nothing by that. Case is folded in ASCII only, because Unicode folding makes different addresses
    /// equal (the Kelvin sign becomes a `k`).
    fn is_named(&self, listed: &str) -> bool {
        if is_fingerprint(listed) {
            return self.fingerprint.eq_ignore_ascii_case(listed);
        }
        if listed.contains('@') {
            return self.emails.iter().any(|email| email.eq_ignore_ascii_case(listed));
        }
        !listed.is_empty() && self.file == listed
    }
}

/// A whole fingerprint of version 4 (40 digits) or 6 (64 digits). Shorter key ids can be forged and name nobody.
fn is_fingerprint(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The listed name that fits, if any; an empty list is fitted by everybody, under his own best name.
///
/// A listed name is a full fingerprint (40 or 64 hexadecimal digits, any case, nothing around or between them), an
/// e-mail address (any case), or the exact name of the key file. The best own name is the first address, else the
/// fingerprint.
pub fn gpg_signer_name(listed: &[String], signer: &GpgSigner) -> Option<String> {
    if listed.is_empty() {
        return Some(signer.emails.first().unwrap_or(&signer.fingerprint).clone());
    }
    listed.iter().find(|name| signer.is_named(name)).cloned()
}

/// The listed name that equals the signature's `signer` annotation; an empty list is fitted by everybody.
/// `fallback` names the key when the list is empty and the annotation absent.
pub fn cosign_signer_name(listed: &[String], annotation: Option<&str>, fallback: &str) -> Option<String> {
    let annotation = annotation.filter(|name| !name.is_empty());
    if listed.is_empty() {
        return Some(annotation.unwrap_or(fallback).to_owned());
    }
    listed.iter().find(|name| annotation == Some(name.as_str())).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &str = "0123456789ABCDEF0123456789ABCDEF01234567";

    fn maker() -> GpgSigner {
        let emails = vec!["imagemaker@registry.local".to_owned(), "second@registry.local".to_owned()];
        GpgSigner { fingerprint: V4.to_owned(), file: "group1.pgp".to_owned(), emails }
    }

    fn gpg(listed: &[&str], signer: &GpgSigner) -> Option<String> {
        gpg_signer_name(&listed.iter().map(ToString::to_string).collect::<Vec<_>>(), signer)
    }

    fn cosign(listed: &[&str], annotation: Option<&str>) -> Option<String> {
        cosign_signer_name(&listed.iter().map(ToString::to_string).collect::<Vec<_>>(), annotation, "key 1")
    }

    #[test]
    fn a_holder_is_named_by_fingerprint_file_or_address() {
        let lower = V4.to_lowercase();
        for name in [
            V4,
            &lower,
            "group1.pgp",
            "imagemaker@registry.local",
            "ImageMaker@Registry.Local",
            "second@registry.local",
        ] {
            assert_eq!(gpg(&[name], &maker()).as_deref(), Some(name));
            assert_eq!(gpg(&["other@x.io", name], &maker()).as_deref(), Some(name), "any one listed signer suffices");
        }
        let v6 = GpgSigner { fingerprint: V4[..32].repeat(2), ..maker() };
        assert!(gpg(&[&v6.fingerprint], &v6).is_some());
    }

    #[test]
    fn nobody_is_named_by_parts_or_decorations() {
        let spaced = format!("{} {}", &V4[..20], &V4[20..]);
        let prefixed = format!("0x{V4}");
        let long = format!("{V4}0");
        for name in [
            "",
            " ",
            "@",
            &V4[24..],
            &V4[..39],
            &spaced,
            &prefixed,
            &long,
            "group1",
            "GROUP1.pgp",
            "group1.pgp ",
            "imagemaker",
            "@registry.local",
            "imagemaker@registry.local.evil.io",
            "ximagemaker@registry.local",
            "image\u{212a}maker@registry.local",
            "<imagemaker@registry.local>",
        ] {
            assert_eq!(gpg(&[name], &maker()), None, "{name:?}");
        }
        assert_eq!(gpg(&[""], &GpgSigner::default()), None, "an empty entry names nobody");
        assert_eq!(gpg(&[V4], &GpgSigner::default()), None);
    }

    #[test]
    fn a_key_file_called_like_another_signer_is_not_taken_for_him() {
        let fake = GpgSigner { fingerprint: "F".repeat(40), file: V4.to_owned(), emails: Vec::new() };
        assert_eq!(gpg(&[V4], &fake), None);
        let fake = GpgSigner { file: "imagemaker@registry.local".to_owned(), ..fake };
        assert_eq!(gpg(&["imagemaker@registry.local"], &fake), None);
    }

    #[test]
    fn letters_that_only_fold_to_the_same_letter_differ() {
        let kelvin = GpgSigner { emails: vec!["\u{212a}im@x.io".to_owned()], ..maker() };
        assert_eq!(gpg(&["kim@x.io"], &kelvin), None);
    }

    #[test]
    fn an_empty_list_takes_everybody_under_the_best_name() {
        assert_eq!(gpg(&[], &maker()).as_deref(), Some("imagemaker@registry.local"));
        assert_eq!(gpg(&[], &GpgSigner { emails: Vec::new(), ..maker() }).as_deref(), Some(V4));
        assert_eq!(cosign(&[], Some("alice")).as_deref(), Some("alice"));
        assert_eq!(cosign(&[], None).as_deref(), Some("key 1"));
        assert_eq!(cosign(&[], Some("")).as_deref(), Some("key 1"));
    }

    #[test]
    fn a_cosign_annotation_must_equal_a_listed_name() {
        assert_eq!(cosign(&["bob", "alice"], Some("alice")).as_deref(), Some("alice"));
        for annotation in [None, Some(""), Some("Alice"), Some("alice "), Some("key 1"), Some("alic"), Some("alicee")] {
            assert_eq!(cosign(&["bob", "alice", ""], annotation), None, "{annotation:?}");
        }
    }
}
