//! podseal next to others, asked directly.

use std::time::Duration;

use crate::support::cluster::{Cluster, WebhookScope};
use crate::support::podseal::{Options, Podseal, podseal};
use crate::support::review::Review;

fn two_instances_judge_their_own_namespaces_only() {
    let cluster = Cluster::shared();
    let strict = Podseal::start(cluster, &Options::new("strict").args(&["--deny-without-policy"]));
    cluster.register(&strict, WebhookScope::Namespaces);
    let (here, there) = (cluster.namespace(&strict, "strict"), cluster.namespace(Podseal::shared(), "lenient"));
    there.policy("some", "- {registry: registry.local, signCheck: false}");
    let image = "registry.local/a:1";
    let denied = here.run("a", image).failed();
    assert!(denied.stderr.contains("denied the request"), "{denied}");
    there.run("a", image).succeeded();
    assert!(!strict.review(&Review::pod(&here.name).container("c", image)).allowed);
    assert!(Podseal::shared().review(&Review::pod(&there.name).container("c", image)).allowed);
}

fn answers_are_counted_and_a_signal_ends_it() {
    let own = Podseal::start(Cluster::shared(), &Options::new("counted").args(&["--deny-without-policy"]));
    let review = Review::pod("nowhere").container("c", "a.invalid/x:1").image_volume("v", "b.invalid/x:1");
    let answer = own.review(&review);
    assert_eq!((answer.allowed, answer.code, answer.reason.as_str()), (false, 403, "Forbidden"), "{answer:?}");
    assert!(answer.message.contains("spec.volumes[0].image.reference"), "{answer:?}");
    let unchanged = own.review(&review.clone().updating(&review));
    assert!(unchanged.allowed, "{unchanged:?}");
    assert!(own.metrics().contains("podseal_"), "{}", own.metrics());
    own.process().signal("TERM");
    assert!(
        own.process().ended_within(Duration::from_secs(20)).is_some_and(|status| status.success()),
        "{}",
        own.log()
    );
}

fn command_line_says_how_it_is_used() {
    let help = podseal(&["serve", "--help"]).succeeded();
    assert!(help.stdout.contains("--kubeconfig"), "{help}");
    assert_eq!(podseal(&["serve", "--no-such-flag"]).code, Some(64));
}

crate::tests! {
    needs [Cluster];
    two_instances_judge_their_own_namespaces_only,
    answers_are_counted_and_a_signal_ends_it,
    command_line_says_how_it_is_used,
}
