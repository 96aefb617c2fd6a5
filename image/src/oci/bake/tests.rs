//! Images made here and by hand, baked and looked at.

use super::*;
use crate::oci::from_dir::{self, Recipe};

fn recipe() -> Recipe {
    Recipe {
        name: "tool:1".into(),
        architecture: "amd64".into(),
        cmd: vec!["/bin/tool".into()],
        epoch: 1000,
        ..Recipe::default()
    }
}

fn folder_image(folder: &Path) -> PathBuf {
    let root = folder.join("root");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    std::fs::write(root.join("bin/tool"), vec![7; 9000]).unwrap();
    std::os::unix::fs::symlink("tool", root.join("bin/sh")).unwrap();
    let out = folder.join("tool.tar");
    from_dir::make(&root, &recipe(), &out).unwrap();
    out
}

/// One tar entry of a hand-made layer.
enum Part<'p> {
    File(&'p str, &'p [u8]),
    Folder(&'p str),
    Hard(&'p str, &'p str),
    /// Written past the tar library's own checks.
    Raw(&'p [u8]),
}

fn layer(parts: &[Part<'_>]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for part in parts {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        match part {
            Part::File(name, bytes) => {
                header.set_size(bytes.len() as u64);
                tar.append_data(&mut header, name, *bytes).unwrap();
            }
            Part::Folder(name) => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_size(0);
                tar.append_data(&mut header, name, std::io::empty()).unwrap();
            }
            Part::Hard(name, target) => {
                header.set_entry_type(tar::EntryType::Link);
                header.set_size(0);
                tar.append_link(&mut header, name, target).unwrap();
            }
            Part::Raw(name) => {
                header.set_size(0);
                header.as_old_mut().name[..name.len()].copy_from_slice(name);
                header.set_cksum();
                tar.append(&header, std::io::empty()).unwrap();
            }
        }
    }
    tar.into_inner().unwrap()
}

/// An archive as `docker save` writes it.
fn saved(path: &Path, layers: &[Vec<u8>], architecture: &str) {
    let ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", digest::of_bytes(layer))).collect();
    let config = serde_json::json!({"architecture": architecture, "config": null, "rootfs": {"diff_ids": ids}});
    let names: Vec<String> = (0..layers.len()).map(|at| format!("{at}/layer.tar")).collect();
    let manifest = serde_json::json!([{"Config": "c.json", "RepoTags": ["x:1"], "Layers": names}]);
    let (config, manifest) = (config.to_string(), manifest.to_string());
    let mut parts = vec![Part::File("c.json", config.as_bytes()), Part::File("manifest.json", manifest.as_bytes())];
    parts.extend(names.iter().zip(layers).map(|(name, bytes)| Part::File(name, bytes)));
    std::fs::write(path, layer(&parts)).unwrap();
}

fn wanted(path: &Path) -> Vec<Wanted> {
    vec![Wanted { name: None, path: path.to_owned() }]
}

fn bake_saved(layers: &[Vec<u8>]) -> Result<(Tree, BakedIndex), String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.tar");
    saved(&path, layers, "amd64");
    bake(&wanted(&path), "amd64", &Spool::new().unwrap()).map_err(|error| error.to_string())
}

fn names(tree: &Tree) -> Vec<String> {
    let short = |path: &PathBuf| {
        let parts: Vec<String> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        parts
            .iter()
            .map(|part| if part.len() == 64 { "ID".to_owned() } else { part.clone() })
            .collect::<Vec<_>>()
            .join("/")
    };
    tree.iter().map(|(path, _)| short(path)).collect()
}

#[test]
fn a_folder_becomes_an_image_and_is_baked() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder_image(folder.path());
    let spool = Spool::new().unwrap();
    let (tree, index) = bake(&wanted(&archive), "amd64", &spool).unwrap();
    assert_eq!(
        names(&tree),
        ["index.json", "layers", "layers/ID", "layers/ID/bin", "layers/ID/bin/sh", "layers/ID/bin/tool"]
    );
    let [image] = index.images.as_slice() else { panic!("{index:?}") };
    assert_eq!(image.names, ["docker.io/library/tool:1"]);
    assert_eq!(image.config, serde_json::json!({"Cmd": ["/bin/tool"]}));
    assert_eq!(image.size, 9000);
    assert!(image.digest.starts_with("sha256:") && image.layers.len() == 1);

    let out = folder.path().join("layout");
    from_dir::make(&folder.path().join("root"), &recipe(), &out).unwrap();
    let (_, from_folder) = bake(&wanted(&out), "amd64", &spool).unwrap();
    assert_eq!(from_folder, index, "a layout folder and its tar are one image");
}

#[test]
fn a_person_can_name_an_image_and_not_two_alike() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder_image(folder.path());
    let text = format!("other/name:2={}", archive.display());
    let named: Wanted = text.parse().unwrap();
    let (_, index) = bake(std::slice::from_ref(&named), "amd64", &Spool::new().unwrap()).unwrap();
    assert_eq!(index.images[0].names, ["docker.io/other/name:2"]);
    let error = bake(&[named.clone(), named], "amd64", &Spool::new().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "two images are called docker.io/other/name:2");
}

#[test]
fn layers_stay_apart_unless_one_takes_away() {
    let low = layer(&[Part::File("etc/a", b"a"), Part::File("etc/b", b"b"), Part::File("var/c", b"c")]);
    let (tree, index) = bake_saved(&[low.clone(), layer(&[Part::File("etc/d", b"d")])]).unwrap();
    assert_eq!(index.images[0].layers.len(), 2);
    assert_eq!(names(&tree).iter().filter(|name| name.ends_with("etc")).count(), 2);

    let upper = layer(&[
        Part::File("etc/.wh.a", b""),
        Part::Folder("var"),
        Part::File("var/.wh..wh..opq", b""),
        Part::File("var/n", b"n"),
    ]);
    let (tree, index) = bake_saved(&[low, upper]).unwrap();
    assert_eq!(index.images[0].layers.len(), 1);
    let expected = ["etc", "etc/b", "var", "var/n"].map(|name| format!("layers/ID/{name}"));
    assert_eq!(names(&tree)[3..], expected);
}

#[test]
fn hard_links_share_content_and_need_their_target() {
    let (tree, index) = bake_saved(&[layer(&[Part::File("a", b"xyz"), Part::Hard("b", "a")])]).unwrap();
    assert_eq!((names(&tree).len(), index.images[0].size), (5, 6));
    let error = bake_saved(&[layer(&[Part::Hard("b", "gone")])]).unwrap_err();
    assert!(error.contains("hard link \"b\" to \"gone\""), "{error}");
}

#[test]
fn hostile_paths_are_refused() {
    let error = bake_saved(&[layer(&[Part::Raw(b"../../etc/passwd")])]).unwrap_err();
    assert!(error.contains("\"../../etc/passwd\" leads out of its tree"), "{error}");
    let (tree, _) = bake_saved(&[layer(&[Part::Raw(b"/abs")])]).unwrap();
    assert!(names(&tree).contains(&"layers/ID/abs".to_owned()));
}

#[test]
fn a_wrong_digest_and_a_wrong_machine_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.tar");
    saved(&path, &[layer(&[Part::File("a", b"x")])], "arm64");
    let spool = Spool::new().unwrap();
    let error = bake(&wanted(&path), "amd64", &spool).unwrap_err().to_string();
    assert!(error.ends_with("no image for amd64; it has arm64"), "{error}");

    let archive = folder_image(folder.path());
    let mut bytes = std::fs::read(&archive).unwrap();
    let at = bytes.windows(50).position(|window| window == [7; 50]).unwrap();
    bytes[at] = 8;
    std::fs::write(&archive, bytes).unwrap();
    let error = bake(&wanted(&archive), "amd64", &spool).unwrap_err().to_string();
    assert!(error.contains("the content has digest sha256:"), "{error}");
}
