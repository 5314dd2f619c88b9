//! Where signatures go besides the staging folder that registries.d names.

use super::world::World;
use crate::support::signer::KeySpec;

crate::tests! {
    needs [Registry, DebianRegistry, Gpg, Sq, Store];
    a_staging_folder_can_be_named,
    what_only_can_be_read_is_not_written_to,
}

fn a_staging_folder_can_be_named() {
    let world = World::new();
    let key = world.gpg.generate(&KeySpec::new("Maker <m@registry.local>"));
    let image = world.registry.push("alt/a/b:1");
    let folder = world.store.folder().to_str().unwrap().to_owned();
    let args = ["sign", &image.tagged(), "--sign-by", "m@registry.local", "--insecure", "--staging", &folder];
    world.podseal(&args).succeeded();
    world.assert_accepted(&image, &image.tagged(), &key);
}

fn what_only_can_be_read_is_not_written_to() {
    let world = World::new();
    world.gpg.generate(&KeySpec::new("Maker <m@registry.local>"));
    let image = world.registry.push("alt/a:1");
    let file = world.registries_d.join("default.yaml");
    let text = format!("default-docker: {{lookaside: '{}'}}\n", world.store.url);
    std::fs::write(&file, text).unwrap();
    let ran = world.sign(&image.tagged(), "m@registry.local", &[]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stderr.contains("nothing can be written to http://"), "{ran}");
    // nginx serves files, and takes none.
    let ran = world.sign(&image.tagged(), "m@registry.local", &["--upload", &world.store.url]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stderr.contains("takes no signatures over HTTP (405)"), "{ran}");
    assert!(world.signatures(&image).is_empty());
}
