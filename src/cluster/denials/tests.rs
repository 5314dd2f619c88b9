use super::*;
use crate::cluster::denials::series::Taken;

const OWNER: Owner<'static> =
    Owner { api_version: "apps/v1", kind: "ReplicaSet", name: "web-6d8", uid: "0d1c3cb2-7c0e-4a4c-9d0e-000000000001" };

fn denial<'a>(namespace: &'a str, owner: Option<Owner<'a>>, message: &'a str) -> Denial<'a> {
    Denial { namespace, owner, kind: "Pod", name: "web-6d8-x1", undecided: false, would: false, message }
}

fn take(series: &mut Series, denial: &Denial<'_>, now: Instant) -> Taken {
    let Notice { about, saying } = Notice::of(denial);
    series.take(about, saying, now)
}

#[test]
fn the_owner_is_written_to_and_without_one_the_namespace() {
    let notice = Notice::of(&denial("team", Some(OWNER), "Pod is not valid: \nImage 'a' is invalid: x (f)"));
    assert_eq!((notice.about.kind.as_str(), notice.about.name.as_str()), ("ReplicaSet", "web-6d8"));
    assert_eq!(notice.about.namespace, "team");
    assert_eq!(notice.saying.note, "Pod was denied: Image 'a' is invalid: x (f)");
    let notice = Notice::of(&denial("team", None, "m"));
    assert_eq!(notice.about, About::namespace("team"));
    assert_eq!(notice.saying.note, "Pod web-6d8-x1 was denied: m");
}

#[test]
fn verdict_obstacle_and_dry_installation_have_reasons_of_their_own() {
    let of = |undecided, would| Notice::of(&Denial { undecided, would, ..denial("t", None, "m") }).saying;
    assert_eq!(of(false, false).reason, "ImageDenied");
    assert_eq!(of(true, false).reason, "ImageUndecided");
    for undecided in [true, false] {
        let said = of(undecided, true);
        assert_eq!((said.reason, said.note.as_str()), ("ImageWouldBeDenied", "Pod web-6d8-x1 would be denied: m"));
    }
}

#[test]
fn b1_an_owner_that_is_no_reference_is_not_repeated_anywhere() {
    let long = "a".repeat(254);
    for owner in [
        Owner { name: "../x", ..OWNER },
        Owner { name: "", ..OWNER },
        Owner { name: &long, ..OWNER },
        Owner { name: "UPPER", ..OWNER },
        Owner { kind: "", ..OWNER },
        Owner { kind: "Replica\nSet", ..OWNER },
        Owner { kind: "ä", ..OWNER },
        Owner { uid: "a b", ..OWNER },
        Owner { uid: &long, ..OWNER },
        Owner { api_version: "", ..OWNER },
        Owner { api_version: "apps/v1/x", ..OWNER },
        Owner { api_version: "/v1", ..OWNER },
    ] {
        assert_eq!(Notice::of(&denial("team", Some(owner), "m")).about, About::namespace("team"), "{owner:?}");
    }
    for owner in
        [OWNER, Owner { uid: "", ..OWNER }, Owner { api_version: "v1", kind: "ReplicationController", ..OWNER }]
    {
        assert_eq!(Notice::of(&denial("team", Some(owner), "m")).about.name, "web-6d8", "{owner:?}");
    }
}

#[test]
fn the_same_denial_is_one_event_and_a_count() {
    let (mut series, now) = (Series::new(), Instant::now());
    let Taken::New(step) = take(&mut series, &denial("team", Some(OWNER), "m"), now) else { panic!("not new") };
    series.sent(step.key(), Some("event-1".to_owned()), now);
    for _ in 0..9 {
        assert_eq!(take(&mut series, &denial("team", Some(OWNER), "m"), now), Taken::Counted);
    }
    // Other words, another object and another namespace are others.
    let other = Owner { name: "db-6d8", ..OWNER };
    for another in
        [denial("team", Some(OWNER), "n"), denial("team", Some(other), "m"), denial("other", Some(OWNER), "m")]
    {
        assert!(matches!(take(&mut series, &another, now), Taken::New(_)));
    }
    assert_eq!(series.due(now + Duration::from_secs(29)), []);
    let repeats = series.due(now + Duration::from_secs(31));
    assert_eq!(repeats, [Step::Repeat { key: step.key().clone(), name: "event-1".to_owned(), count: 10 }]);
    assert_eq!(series.due(now + Duration::from_secs(99)), [], "said once");
    // After a while without any, the next one is news again.
    series.due(now + Duration::from_secs(700));
    let later = take(&mut series, &denial("team", Some(OWNER), "m"), now + Duration::from_secs(701));
    assert!(matches!(later, Taken::New(_)), "{later:?}");
}

#[test]
fn a_namespace_that_is_denied_all_the_time_is_told_so_often_and_takes_nothing_from_others() {
    let (mut series, now) = (Series::new(), Instant::now());
    let told = |series: &mut Series, namespace: &str, from: usize, now| {
        let texts: Vec<_> = (from..from + 1000).map(|i| format!("message {i}")).collect();
        texts.iter().filter(|text| matches!(take(series, &denial(namespace, None, text), now), Taken::New(_))).count()
    };
    assert_eq!(told(&mut series, "noisy", 0, now), 20);
    assert_eq!(told(&mut series, "quiet", 0, now), 20);
    assert_eq!(told(&mut series, "noisy", 1000, now + Duration::from_secs(60)), 10);
    // All together, too; and what is remembered of them ends.
    let all: usize = (0..100).map(|i| told(&mut series, &format!("team-{i}"), 0, now + Duration::from_secs(60))).sum();
    assert!((80..=120).contains(&all), "{all}");
    series.due(now + Duration::from_secs(3600));
    assert!(matches!(take(&mut series, &denial("noisy", None, "m"), now + Duration::from_secs(3601)), Taken::New(_)));
}

#[test]
fn whoever_fills_the_memory_makes_room_for_everybody_else() {
    let (mut series, mut now) = (Series::new(), Instant::now());
    let tenth = Duration::from_millis(100);
    for i in 0..2048 {
        now += tenth;
        let namespace = format!("crowd-{}", i / 18);
        assert!(matches!(take(&mut series, &denial(&namespace, None, &i.to_string()), now), Taken::New(_)), "{i}");
    }
    assert!(matches!(take(&mut series, &denial("fresh", None, "m"), now + tenth), Taken::New(_)));
    assert_eq!(take(&mut series, &denial("fresh", None, "m"), now + tenth), Taken::Counted);
    // The one that was silent for longest is news again, the latest is not.
    assert_eq!(take(&mut series, &denial("crowd-113", None, "2047"), now + tenth), Taken::Counted);
    now += tenth * 2;
    assert!(matches!(take(&mut series, &denial("crowd-0", None, "0"), now), Taken::New(_)));
    // A namespace has its own share, however slowly it takes it.
    let mut series = Series::new();
    for i in 0..=128 {
        now += Duration::from_secs(6);
        assert!(matches!(take(&mut series, &denial("slow", None, &i.to_string()), now), Taken::New(_)), "{i}");
    }
    assert!(matches!(take(&mut series, &denial("slow", None, "0"), now + Duration::from_secs(6)), Taken::New(_)));
    assert_eq!(take(&mut series, &denial("slow", None, "128"), now), Taken::Counted);
}

#[test]
fn an_event_that_could_not_be_written_is_tried_again_with_the_next_denial() {
    let (mut series, now) = (Series::new(), Instant::now());
    let Taken::New(step) = take(&mut series, &denial("team", None, "m"), now) else { panic!("not new") };
    series.forget(step.key());
    assert!(matches!(take(&mut series, &denial("team", None, "m"), now), Taken::New(_)));
}

#[test]
fn a_queue_that_is_full_drops_and_counts_without_waiting() {
    let metrics = Arc::new(Metrics::new());
    let (queue, _kept) = mpsc::channel(WAITING);
    let denials = Denials(Some(Arc::new(Handle { queue, metrics: metrics.clone() })));
    for _ in 0..WAITING + 7 {
        denials.report(&denial("team", None, "m"));
    }
    assert!(metrics.encode().contains("podseal_denial_events_total{result=\"dropped\"} 7\n"));
    Denials::off().report(&denial("team", None, "m"));
}
