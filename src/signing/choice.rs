//! Which secret key is meant when several carry one address, as after a rotation.
//!
//! ```text
//!  one usable ─────────────────────────────────────────── it
//!  several, one of them is an image maker's active key ── it
//!  several with the very same User IDs ────────────────── the newest that is not on its way out
//!  anything else ──────────────────────────────────────── nobody guesses
//! ```

use std::time::{Duration, SystemTime};

use super::gnupg::{GnupgError, SecretKey, no_key};
use super::makers::{Maker, State, date};

/// How long before its end a key is spoken of.
const SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// The key that `name` means among those that carry it, and why that one if there was a choice. `home` is for messages.
pub(super) fn choose(
    name: &str,
    named: Vec<SecretKey>,
    makers: &[Maker],
    home: &str,
) -> Result<(SecretKey, Option<String>), GnupgError> {
    if named.is_empty() {
        return Err(no_key(name, home));
    }
    let (mut usable, unusable): (Vec<_>, Vec<_>) = named.into_iter().partition(SecretKey::is_usable);
    if usable.len() < 2 {
        return usable.pop().map(|key| (key, None)).ok_or_else(|| {
            GnupgError::Key(format!("no secret key {name:?} in {home} may sign: {}", listed(&unusable, makers)))
        });
    }
    let active: Vec<_> = usable.iter().filter(|key| state(key, makers) == Some(State::Active)).collect();
    if let [key] = active.as_slice() {
        let why = format!("{name} names several keys; {} is the image maker's active one", key.fingerprint);
        return Ok(((*key).clone(), Some(why)));
    }
    let alike = usable.windows(2).all(|pair| matches!(pair, [one, two] if one.user_ids == two.user_ids));
    // Two active ones are two makers, whatever they call themselves.
    if alike && active.is_empty() {
        let newest = usable
            .iter()
            .filter(|key| !matches!(state(key, makers), Some(State::Retiring | State::Revoked)))
            .max_by_key(|key| key.created);
        let tied = |key: &SecretKey| usable.iter().filter(|other| other.created == key.created).count() > 1;
        if let Some(key) = newest.filter(|key| !tied(key)) {
            let why = format!("{name} names several keys of the same user IDs; {} is the newest", key.fingerprint);
            return Ok((key.clone(), Some(why)));
        }
    }
    Err(GnupgError::Key(format!(
        "several secret keys in {home} carry {name:?}: give the fingerprint of one: {}",
        listed(&usable, makers)
    )))
}

/// What has to be known about a key before more is signed with it.
pub(super) fn warning(
    fingerprint: &str,
    expires: Option<SystemTime>,
    makers: &[Maker],
    now: SystemTime,
) -> Option<String> {
    let maker = makers.iter().find(|maker| maker.keys.iter().any(|key| key.fingerprint == fingerprint));
    let recorded = maker.and_then(|maker| maker.keys.iter().find(|key| key.fingerprint == fingerprint));
    if let (Some(maker), Some(key)) = (maker, recorded.filter(|key| key.state != State::Active)) {
        let until = key.until.as_ref().map(|until| format!(" until {until}")).unwrap_or_default();
        let instead = maker.active().map(|key| format!("; sign with {}", key.fingerprint)).unwrap_or_default();
        let (state, name) = (key.state.label(), &maker.name);
        return Some(format!("the key {fingerprint} of the image maker {name} is {state}{until}{instead}"));
    }
    let end = expires.filter(|end| *end <= now + SOON)?;
    Some(format!("the key {fingerprint} ends on {}, and what it signs verifies until then only", date(end)))
}

fn state(key: &SecretKey, makers: &[Maker]) -> Option<State> {
    let mut recorded = makers.iter().flat_map(|maker| &maker.keys);
    recorded.find(|recorded| recorded.fingerprint == key.fingerprint).map(|recorded| recorded.state)
}

/// Each with its times, and why it may not sign if so.
fn listed(keys: &[SecretKey], makers: &[Maker]) -> String {
    let one = |key: &SecretKey| {
        let created = key.created.map_or_else(|| "unknown".to_owned(), date);
        let end = match (key.validity, key.expires) {
            ('r', _) => "revoked".to_owned(),
            ('d', _) => "disabled".to_owned(),
            ('e', Some(end)) => format!("expired {}", date(end)),
            ('e', None) => "expired".to_owned(),
            _ if !key.is_usable() => "not for signing".to_owned(),
            (_, Some(end)) => format!("expires {}", date(end)),
            (_, None) => "does not expire".to_owned(),
        };
        let state = state(key, makers).map(|state| format!(", {}", state.label())).unwrap_or_default();
        format!("{} (created {created}, {end}{state})", key.fingerprint)
    };
    keys.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::makers::MakerKey;
    use super::*;

    fn at(day: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + day * 24 * 3600)
    }

    fn key(letter: &str, day: u64, user_id: &str) -> SecretKey {
        SecretKey {
            fingerprint: letter.repeat(40),
            validity: 'u',
            created: Some(at(day)),
            capabilities: "SC".to_owned(),
            has_secret: true,
            user_ids: vec![user_id.to_owned()],
            ..SecretKey::default()
        }
    }

    fn maker(name: &str, keys: &[(&str, State)]) -> Maker {
        let keys = keys.iter().map(|(letter, state)| MakerKey {
            state: *state,
            until: (*state == State::Retiring).then(|| "2024-01-01T00:00:00Z".to_owned()),
            ..MakerKey::active(&letter.repeat(40), at(0))
        });
        Maker {
            name: name.to_owned(),
            path: name.to_owned(),
            email: "m@x".to_owned(),
            full_name: String::new(),
            note: String::new(),
            key_file: String::new(),
            gnupg_home: None,
            lookaside: None,
            insecure: false,
            keys: keys.collect(),
        }
    }

    fn chosen(keys: &[SecretKey], makers: &[Maker]) -> Result<String, String> {
        let chosen = choose("m@x", keys.to_vec(), makers, "HOME").map_err(|error| error.to_string());
        chosen.map(|(key, why)| format!("{}:{}", &key.fingerprint[..1], why.unwrap_or_default()))
    }

    #[test]
    fn after_a_rotation_the_makers_active_key_signs() {
        // The older one is active: the registry decides, not the clock.
        let keys = [key("A", 1, "M <m@x>"), key("B", 2, "M <m@x>")];
        let makers = [maker("m", &[("B", State::Retiring), ("A", State::Active)])];
        let said = chosen(&keys, &makers).unwrap();
        assert!(said.starts_with("A:") && said.contains("active"), "{said}");
    }

    #[test]
    fn without_a_registry_the_newest_of_the_same_user_id_signs() {
        let keys = [key("A", 2, "M <m@x>"), key("B", 1, "M <m@x>")];
        let said = chosen(&keys, &[]).unwrap();
        assert!(said.starts_with("A:") && said.contains("newest"), "{said}");
        let retiring = [maker("m", &[("A", State::Retiring)])];
        assert!(chosen(&keys, &retiring).unwrap().starts_with("B:"), "a retiring key is no successor");
    }

    #[test]
    fn nobody_guesses_between_holders() {
        let other = [key("A", 1, "M <m@x>"), key("B", 2, "Other <m@x>")];
        let same_second = [key("A", 1, "M <m@x>"), key("B", 1, "M <m@x>")];
        let two = [maker("m", &[("A", State::Active)]), maker("n", &[("B", State::Active)])];
        let same = [key("A", 1, "M <m@x>"), key("B", 2, "M <m@x>")];
        for (keys, makers) in [(&other, &[][..]), (&same_second, &[]), (&same, &two)] {
            let said = chosen(keys, makers).unwrap_err();
            assert!(said.contains("several secret keys in HOME") && said.contains("(created 2023-11-15T"), "{said}");
            assert!(said.contains("does not expire"), "{said}");
        }
    }

    #[test]
    fn an_expired_key_is_said_to_be_expired_and_one_that_is_left_signs() {
        let expired = SecretKey { validity: 'e', expires: Some(at(3)), ..key("A", 1, "M <m@x>") };
        let said = chosen(std::slice::from_ref(&expired), &[]).unwrap_err();
        assert!(said.contains("may sign") && said.contains("expired 2023-11-17T"), "{said}");
        assert_eq!(chosen(&[expired, key("B", 1, "Other <m@x>")], &[]).unwrap(), "B:");
        assert!(chosen(&[], &[]).unwrap_err().contains("there is no secret key"));
        let bare = choose("immkk8s", Vec::new(), &[], "the home").unwrap_err().to_string();
        assert!(bare.ends_with("; a key is named by e-mail, fingerprint or key ID"), "{bare}");
    }

    #[test]
    fn a_key_on_its_way_out_is_spoken_of() {
        let makers = [maker("m", &[("A", State::Retiring), ("B", State::Active)])];
        let said = warning(&"A".repeat(40), None, &makers, at(0)).unwrap();
        assert!(said.contains("retiring until 2024-01-01T00:00:00Z; sign with BBBB"), "{said}");
        assert!(warning(&"B".repeat(40), None, &makers, at(0)).is_none());
        assert!(warning(&"B".repeat(40), Some(at(29)), &[], at(0)).unwrap().contains("ends on 2023-12-13T"));
        assert!(warning(&"B".repeat(40), Some(at(31)), &[], at(0)).is_none());
    }
}
