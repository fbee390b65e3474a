//! Imports of archives, good and bad; layers on disk read back. Needs root, as the agent does (owners, devices, trusted
//! attributes).
#![expect(clippy::unwrap_used, reason = "tests")]

mod made;

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
};

use coracle_image::{ImageStore, Platform, PullPolicy, Registry};
use made::{GZIP, Made, PLAIN, digest, gzip, write_archive, write_tar};

const NAME: &str = "docker.io/example/hello:1";

struct Bench {
    dir: tempfile::TempDir,
    store: ImageStore,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(&dir.path().join("images"), Platform::host()).unwrap();
        Self { dir, store }
    }

    fn tar(&self) -> std::path::PathBuf {
        self.dir.path().join("image.tar")
    }

    /// Layer directories, top first.
    fn layers(&self, name: &str) -> Vec<std::path::PathBuf> {
        let registry = Registry::new(Vec::new(), b"");
        self.store.resolve(name, PullPolicy::Never, &registry, &[]).unwrap().layers
    }

    /// Nothing of a failed import is kept.
    #[track_caller]
    fn refused(&self, want: &str) {
        let got = self.store.import(&self.tar(), None).unwrap_err().to_string();
        assert!(got.contains(want), "{got}");
        let count =
            |part: &str| fs::read_dir(self.dir.path().join("images").join(part)).unwrap().count();
        assert_eq!(
            (count("tmp"), self.store.list().unwrap().len()),
            (0, 0),
            "left behind after: {got}"
        );
        assert!(!Path::new("/tmp/coracle-image-escaped").exists());
    }
}

#[test]
fn an_imported_image_is_unpacked_as_its_layers_say() {
    let bench = Bench::new();
    let made = Made::new(&[
        &[
            "etc/",
            "etc/passwd=root",
            "bin/sh=#!",
            "bin/su=>bin/sh",
            "usr/lib->../lib",
            "opt/deep/er/file=x",
        ],
        &["etc/.wh.passwd", "opt/deep/.wh..wh..opq", "opt/deep/new=y", "/abs=1", "./dot=2"],
    ]);
    made.archive(&bench.tar(), NAME);
    let stored = bench.store.import(&bench.tar(), None).unwrap();
    assert_eq!(stored[0].names, [NAME]);
    assert!(stored[0].pinned);
    assert_eq!(stored[0].config.entrypoint, ["/hello"]);

    let layers = bench.layers("example/hello:1");
    let [top, bottom] = layers.as_slice() else { panic!("{layers:?}") };
    let passwd = fs::metadata(bottom.join("etc/passwd")).unwrap();
    assert_eq!(
        (passwd.uid(), passwd.gid(), passwd.mode() & 0o7777, passwd.mtime()),
        (7, 8, 0o4750, 1_700_000_000)
    );
    assert_eq!(
        fs::metadata(bottom.join("bin/su")).unwrap().ino(),
        fs::metadata(bottom.join("bin/sh")).unwrap().ino()
    );
    assert_eq!(fs::read_link(bottom.join("usr/lib")).unwrap(), Path::new("../lib"));
    assert_eq!(fs::metadata(bottom.join("etc")).unwrap().mtime(), 1_700_000_000);

    let whiteout = fs::symlink_metadata(top.join("etc/passwd")).unwrap();
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    assert_eq!(fs::read(top.join("abs")).unwrap(), b"1");
    assert_eq!(fs::read(top.join("dot")).unwrap(), b"2");

    // The kernel's own reading of both layers together.
    let merged = bench.dir.path().join("merged");
    fs::create_dir(&merged).unwrap();
    let options = format!("lowerdir={}:{}", top.display(), bottom.display());
    let mount = std::process::Command::new("mount")
        .args(["-t", "overlay", "overlay", "-o", &options])
        .arg(&merged)
        .status()
        .unwrap();
    assert!(mount.success());
    let seen = (
        merged.join("etc/passwd").exists(),
        merged.join("opt/deep/er").exists(),
        merged.join("opt/deep/new").exists(),
    );
    assert!(std::process::Command::new("umount").arg(&merged).status().unwrap().success());
    assert_eq!(seen, (false, false, true));
}

#[test]
fn a_layer_cannot_write_outside_its_directory() {
    for words in [
        &["../../../../../../../../tmp/coracle-image-escaped=x"][..],
        &["a/../../../../../../../tmp/coracle-image-escaped=x"],
        &["hard=>../../../etc/passwd"],
    ] {
        let bench = Bench::new();
        Made::new(&[words]).archive(&bench.tar(), NAME);
        bench.refused("leads out of the image");
    }
    // Symlinks lead to places in the image, whatever they say.
    let bench = Bench::new();
    let words = [
        "up->../../../../../../../..",
        "root->/",
        "up/tmp/coracle-image-escaped=x",
        "root/tmp/coracle-image-escaped=x",
    ];
    Made::new(&[&words]).archive(&bench.tar(), NAME);
    bench.store.import(&bench.tar(), None).unwrap();
    assert!(!Path::new("/tmp/coracle-image-escaped").exists());
    assert!(bench.layers(NAME).first().unwrap().join("tmp/coracle-image-escaped").exists());
}

#[test]
fn damaged_archives_are_refused_by_what_is_wrong() {
    let good = Made::new(&[&["a=1"], &["b=2"]]);
    let top = digest(&good.manifest());
    let layer = digest(&good.layers[1].1);

    let bench = Bench::new();
    let mut blobs = good.blobs();
    blobs.iter_mut().find(|(digest, _)| *digest == layer).unwrap().1 = gzip(&made::tar(&["b=3"]));
    write_archive(&bench.tar(), &blobs, &top, NAME);
    bench.refused("layer 2 of image `docker.io/example/hello:1` has digest sha256:");

    let mut blobs = good.blobs();
    let bytes = &mut blobs.iter_mut().find(|(digest, _)| *digest == layer).unwrap().1;
    bytes.truncate(bytes.len() / 2);
    write_archive(&bench.tar(), &blobs, &top, NAME);
    bench.refused("ended after");

    let mut blobs = good.blobs();
    blobs.retain(|(digest, _)| *digest != layer);
    write_archive(&bench.tar(), &blobs, &top, NAME);
    bench.refused("is not in it");

    // The packed bytes are as promised, but unpack to something else than the config says.
    let mut lying = Made::new(&[&["a=1"]]);
    lying.layers[0].2 = made::tar(&["a=2"]);
    lying.archive(&bench.tar(), NAME);
    bench.refused("layer 1, unpacked, of image");

    let mut foreign = Made::new(&[&["a=1"]]);
    foreign.architecture = "s390x";
    foreign.archive(&bench.tar(), NAME);
    bench.refused("it has: linux/s390x");

    let mut half = Made::new(&[&["a=1"]]);
    half.layers[0].2.truncate(700);
    half.layers[0].1 = gzip(&half.layers[0].2);
    half.archive(&bench.tar(), NAME);
    bench.refused("damaged");

    fs::write(bench.tar(), b"this is no tar").unwrap();
    bench.refused("it is no tar archive");
    write_tar(&bench.tar(), &[("README".into(), b"hello".to_vec())]);
    bench.refused("neither index.json (OCI) nor manifest.json (Docker)");
    good.archive(&bench.tar(), "1");
    bench.refused("give --name");
}

#[test]
fn docker_archives_and_plain_layers_are_taken_too() {
    let bench = Bench::new();
    let mut made = Made::new(&[&["a=1"]]);
    made.layers[0].0 = PLAIN;
    made.layers[0].1 = made.layers[0].2.clone();
    made.archive(&bench.tar(), NAME);
    bench.store.import(&bench.tar(), None).unwrap();

    let files = vec![
        (
            "manifest.json".into(),
            br#"[{"Config":"c.json","RepoTags":["example/docker:2"],"Layers":["l/layer.tar"]}]"#
                .to_vec(),
        ),
        ("c.json".into(), made.config()),
        ("l/layer.tar".into(), made.layers[0].2.clone()),
    ];
    write_tar(&bench.tar(), &files);
    bench.store.import(&bench.tar(), None).unwrap();
    assert_eq!(bench.layers("example/docker:2"), bench.layers(NAME), "the same layer is kept once");
    assert!(made.layers[0].0 != GZIP);
}

#[test]
fn a_name_is_moved_and_what_nobody_names_goes() {
    let bench = Bench::new();
    let layers_dir = bench.dir.path().join("images/layers");
    let count = || fs::read_dir(&layers_dir).unwrap().count();
    Made::new(&[&["a=1"], &["b=1"]]).archive(&bench.tar(), NAME);
    bench.store.import(&bench.tar(), None).unwrap();
    Made::new(&[&["a=1"], &["b=2"]]).archive(&bench.tar(), NAME);
    bench.store.import(&bench.tar(), None).unwrap();
    assert_eq!((bench.store.list().unwrap().len(), count()), (1, 2));

    let registry = Registry::new(Vec::new(), b"");
    let image = bench.store.resolve(NAME, PullPolicy::Always, &registry, &[]).unwrap();
    bench.store.hold(&image, "uid.container").unwrap();
    let refused = bench.store.remove(NAME).unwrap_err().to_string();
    assert!(refused.contains("in use by uid.container"), "{refused}");
    bench.store.release("uid.container").unwrap();
    bench.store.remove(NAME).unwrap();
    assert_eq!((bench.store.list().unwrap().len(), count()), (0, 0));
    let refused = bench.store.remove(NAME).unwrap_err().to_string();
    assert!(refused.contains("is not on this node"), "{refused}");
}
