use super::*;

#[test]
fn every_fault_kind_has_its_own_label() {
    for (slot, kind) in FAULTS.into_iter().enumerate() {
        assert_eq!(fault_slot(kind), slot, "{kind:?}");
    }
}

#[test]
fn the_text_holds_what_was_counted() {
    let metrics = Metrics::new();
    metrics.review(Ending::Denied, Duration::from_millis(3));
    metrics.image(Ending::Allowed, Some(Method::Gpg));
    metrics.whitelisted(Whitelisted::Namespace);
    metrics.denial_event(Told::Limited);
    metrics.fault(FaultKind::Unreachable);
    metrics.cache(true);
    metrics.upstream(UpstreamKind::Registry, Duration::from_millis(30), Ok(404));
    metrics.upstream(UpstreamKind::Store, Duration::from_secs(60), Err(FaultKind::Timeout));
    metrics.upstream(UpstreamKind::Store, Duration::ZERO, Ok(0));
    metrics.shed();
    metrics.inventory(4, 3, 2, 1);
    metrics.watch("secrets", true);
    metrics.certificate_expiry("webhook", 1_800_000_000.0);
    metrics.certificate_expiry("leaf", 1.0);
    metrics.controller.crd_outdated("registrysecuritypolicies", true);
    metrics.leads_no_more();
    metrics.key("AB", "Secret/a\"b\n", Some(17.0));
    metrics.key("CD", "x", None);
    metrics.enforcing(true);
    let text = metrics.encode();
    for line in [
        "podseal_reviews_total{outcome=\"denied\"} 1",
        "podseal_reviews_total{outcome=\"allowed\"} 0",
        "podseal_review_duration_seconds_bucket{le=\"0.0025\"} 0",
        "podseal_review_duration_seconds_bucket{le=\"0.005\"} 1",
        "podseal_review_duration_seconds_bucket{le=\"+Inf\"} 1",
        "podseal_review_duration_seconds_sum 0.003",
        "podseal_images_total{outcome=\"allowed\",method=\"gpg\"} 1",
        "podseal_whitelisted_total{by=\"namespace\"} 1",
        "podseal_whitelisted_total{by=\"image\"} 0",
        "podseal_denial_events_total{result=\"limited\"} 1",
        "podseal_faults_total{kind=\"unreachable\"} 1",
        "podseal_cache_total{result=\"hit\"} 1",
        "podseal_upstream_requests_total{kind=\"registry\",result=\"4xx\"} 1",
        "podseal_upstream_requests_total{kind=\"store\",result=\"timeout\"} 1",
        "podseal_upstream_requests_total{kind=\"store\",result=\"other\"} 1",
        "podseal_upstream_duration_seconds_bucket{le=\"10.0\",kind=\"store\"} 1",
        "podseal_shed_total 1",
        "podseal_policies 4",
        "podseal_policies_with_problems 3",
        "podseal_whitelist_lines 2",
        "podseal_whitelist_bad_lines 1",
        "podseal_watch_synced{resource=\"secrets\"} 1",
        "podseal_certificate_expiry_timestamp_seconds{certificate=\"webhook\"} 1800000000.0",
        "podseal_enforcing 1",
        "podseal_keys 2",
        "podseal_key_expiry_timestamp_seconds{key=\"AB\",source=\"Secret/a\\\"b?\"} 17.0",
        concat!("podseal_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "missing {line} in\n{text}");
    }
    assert!(
        !text.contains("certificate=\"leaf\"")
            && !text.contains("podseal_crd_outdated{crd=\"registrysecuritypolicies\"} 1")
    );
}

#[test]
fn h18_key_series_are_bounded_and_without_doubles() {
    let metrics = Metrics::new();
    let source = format!("k8s://a/{}", "s".repeat(5000));
    metrics.key("forever", &source, None);
    for i in (0..1500).rev().chain([0]) {
        metrics.key(&format!("{i:04}"), &source, Some(f64::from(i)));
    }
    let text = metrics.encode();
    let series: Vec<&str> = text.lines().filter(|l| l.starts_with("podseal_key_expiry")).collect();
    assert_eq!(series.len(), MAX_KEYS);
    assert!(series.iter().all(|line| line.len() < 300));
    assert_eq!(series.iter().filter(|line| line.contains("key=\"0000\"")).count(), 1);
    assert!(text.contains("key=\"0999\"") && !text.contains("key=\"1000\""), "those that expire first are kept");
}

#[test]
fn keys_of_a_source_that_is_gone_have_no_series_and_others_keep_theirs() {
    let metrics = Metrics::new();
    metrics.key("AA", "k8s://ns/one/a.pgp", Some(1.0));
    metrics.key("BB", "k8s://ns/one", Some(1.0));
    metrics.key("CC", "k8s://ns/one2/a.pgp", Some(1.0));
    metrics.forget_keys("k8s://ns/one");
    let text = metrics.encode();
    assert!(!text.contains("key=\"AA\"") && !text.contains("key=\"BB\"") && text.contains("key=\"CC\""));
    assert!(text.lines().any(|line| line == "podseal_keys 1"));
}

#[test]
fn h18_traffic_makes_no_new_series() {
    let metrics = Metrics::new();
    let before = metrics.encode().lines().count();
    for status in 0..1000 {
        metrics.upstream(UpstreamKind::Token, Duration::from_millis(u64::from(status)), Ok(status));
    }
    metrics.whitelisted(Whitelisted::Image);
    assert_eq!(metrics.encode().lines().count(), before);
}
