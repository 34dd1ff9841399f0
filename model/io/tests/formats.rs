//! Do clouds and meshes of every format come out as they went in?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod files;

use std::path::Path;

use enel_io::{Axis, Cloud, CloudError, LoadConfig, LoadReport, Note};
use files::*;

fn load(bytes: &[u8], name: &str) -> Cloud {
    Cloud::from_bytes(bytes, Path::new(name)).unwrap_or_else(|error| panic!("{name}: {}", chain(&error)))
}

fn chain(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {}", chain(source)))
}

fn fault(bytes: &[u8], name: &str) -> String {
    chain(&Cloud::from_bytes(bytes, Path::new(name)).expect_err(name))
}

/// Writes files into a folder and opens the first.
fn open(files: &[(&str, &[u8])], config: &LoadConfig) -> Result<(Cloud, LoadReport), CloudError> {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    Cloud::open(&folder.path().join(files[0].0), config)
}

/// All points lie on a cube of side 2 around the origin, and all six sides have some.
fn is_cube(cloud: &Cloud) {
    let mut sides = [0; 6];
    for point in &cloud.xyz {
        assert!(point.iter().all(|v| v.abs() <= 1.000_001), "{point:?}");
        let axis = point.iter().position(|v| (v.abs() - 1.0).abs() < 1e-6).expect("on a side");
        sides[2 * axis + usize::from(point[axis] > 0.0)] += 1;
    }
    let share = cloud.xyz.len() / 6;
    // Five standard deviations of a share of a sixth of 8192 are 169.
    assert!(sides.iter().all(|n: &usize| n.abs_diff(share) < 169), "{sides:?}");
}

fn has_colour(cloud: &Cloud, rgb: [f32; 3]) {
    let found = cloud.rgb.as_ref().expect("the cloud has colours");
    let is_near = |c: &[f32; 3]| (0..3).all(|i| (c[i] - rgb[i]).abs() < 1e-4);
    assert!(found.iter().all(is_near), "{:?}, expected {rgb:?}", found[0]);
}

#[test]
fn archives_give_the_array_that_is_a_cloud() {
    let points = npy("<f4", "(2, 3)", &f32_bytes(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let colours = npy("|u1", "(2, 3)", &[255, 0, 51, 1, 0, 0]);
    let labels = npy("<i8", "(2,)", &[0; 16]);
    for is_packed in [false, true] {
        let members = [("label", labels.clone()), ("rgb", colours.clone()), ("xyz", points.clone())];
        let cloud = load(&npz(&members, is_packed), "a.npz");
        assert_eq!(cloud.xyz, [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
        assert_eq!(cloud.rgb.unwrap(), [[1.0, 0.0, 0.2], [1.0 / 255.0, 0.0, 0.0]]);
    }
    let only = load(&npz(&[("arr_0", points.clone()), ("label", labels.clone())], true), "a.npz");
    assert_eq!((only.xyz.len(), only.rgb), (2, None));
    let unclear = fault(&npz(&[("a", points.clone()), ("b", points)], false), "a.npz");
    assert!(unclear.contains("`a` [2, 3], `b` [2, 3]") && unclear.contains("name the points"), "{unclear}");
    assert!(fault(&npz(&[("label", labels)], false), "a.npz").contains("`label` [2]"));
}

#[test]
fn scans_of_every_version_and_point_format_are_read() {
    for minor in 0..=4 {
        for format in 0..=10 {
            let cloud = load(&las(minor, format, false), "a.las");
            // Around the first point, which is at (500000.5, 4000001, 11).
            assert_eq!(cloud.xyz, [[-0.5, 0.0, 0.0], [0.5, 0.0, -2.0]], "1.{minor}, format {format}");
            let is_coloured = matches!(format, 2 | 3 | 5 | 7 | 8 | 10);
            assert_eq!(cloud.rgb, is_coloured.then(|| vec![[1.0, 0.0, 0.2]; 2]), "format {format}");
            assert_eq!(load(&las(minor, format, true), "a.las").xyz.len(), 1, "format {format}");
        }
    }
    let mut packed = las(2, 3, false);
    packed[104] |= 0x80;
    let text = fault(&packed, "a.laz");
    assert!(text.contains(".laz") && text.contains("laszip"), "{text}");
    let mut cut = las(2, 3, false);
    cut.truncate(cut.len() - 1);
    assert!(fault(&cut, "a.las").contains("needs 68 B, 67 B are left"));
    let mut promised = las(4, 6, false);
    promised[247..255].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(fault(&promised, "a.las").contains("the file is cut"));
}

#[test]
fn far_points_are_moved_and_said() {
    let (_, report) = open(&[("a.las", &las(2, 0, false))], &LoadConfig::default()).unwrap();
    assert_eq!(report.notes, [Note::Moved { origin: [500_001.0, 4_000_001.0, 11.0] }]);
}

#[test]
fn facets_are_read_from_text_and_bytes_with_either_kind_of_colour() {
    let plain = load(stl_text().as_bytes(), "a.stl");
    is_cube(&plain);
    assert_eq!((plain.xyz.len(), &plain.rgb), (8192, &None));
    assert_eq!(load(&stl(b"made by hand", 0), "cube"), plain);
    // Binary files may begin like text.
    assert_eq!(load(&stl(b"solid cube", 0), "a.stl"), plain);
    has_colour(&load(&stl(b"", 1 << 15 | 31 << 10), "a.stl"), [1.0, 0.0, 0.0]);
    has_colour(&load(&stl(b"COLOR=\x00\xff\x33\xff", 31 << 10), "a.stl"), [0.0, 0.0, 1.0]);
    has_colour(&load(&stl(b"COLOR=\x00\xff\x33\xff", 1 << 15), "a.stl"), [0.0, 1.0, 0.2]);
}

#[test]
fn off_files_of_every_habit_are_read() {
    let plain = load(stl_text().as_bytes(), "a.stl");
    for keyword in ["OFF\n", "OFF ", "OFF", ""] {
        let cloud = load(off(keyword, "", "").as_bytes(), "a.off");
        is_cube(&cloud);
        assert_eq!(cloud.rgb, None);
        assert_eq!(cloud, plain);
    }
    has_colour(&load(off("COFF\n", " 255 0 51 255", "").as_bytes(), "x"), [1.0, 0.0, 0.2]);
    has_colour(&load(off("CNOFF\n", " 0 0 1 1 0 0.2 1", "").as_bytes(), "x"), [1.0, 0.0, 0.2]);
    has_colour(&load(off("OFF\n", "", " 255 0 51").as_bytes(), "x"), [1.0, 0.0, 0.2]);
    has_colour(&load(off("OFF\n", "", " 1.0 0.0 0.2 1.0").as_bytes(), "x"), [1.0, 0.0, 0.2]);
    assert!(fault(off("OFF\n", "", "").replace("3 0 2 1", "3 0 8 1").as_bytes(), "a.off").contains("vertex 8"));
    assert!(fault(b"OFF BINARY\n", "a.off").contains("as text"));
    assert!(fault(b"OFF\n3 1 0\n0 0 0\n", "a.off").contains("cut among the vertices"));
    assert!(fault(b"OFF\n99999999999 1 0\n", "a.off").contains("expected OFF and the numbers"));
}

#[test]
fn obj_files_take_vertex_material_or_texture_colours() {
    let config = LoadConfig::default();
    let plain = format!("{}{}", obj_vertices(""), obj_faces(""));
    let (cloud, report) = open(&[("a.obj", plain.as_bytes())], &config).unwrap();
    is_cube(&cloud);
    assert_eq!((cloud.rgb, report.n_triangles, report.n_vertices), (None, Some(12), 8));
    let coloured = format!("{}{}", obj_vertices(" 1 0 0.2"), obj_faces("//1"));
    has_colour(&load(coloured.as_bytes(), "a.obj"), [1.0, 0.0, 0.2]);

    let body =
        |uv| format!("mtllib my paints.mtl\n{}vt 0.75 0.5\nusemtl oak tree\n{}", obj_vertices(""), obj_faces(uv));
    let kd = b"newmtl oak tree\nKd 0.2 0.4 0.6\n";
    let (cloud, report) = open(&[("a.obj", body("").as_bytes()), ("my paints.mtl", kd)], &config).unwrap();
    has_colour(&cloud, [0.2, 0.4, 0.6]);
    assert_eq!(report.notes, []);

    let map = b"newmtl oak tree\nKd 0.2 0.4 0.6\nmap_Kd C:\\art\\wood.png\n".as_slice();
    let files = [("a.obj", body("/1/5")), ("my paints.mtl", String::from_utf8_lossy(map).into_owned())];
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
    let picture = png();
    let with_picture = [files.as_slice(), &[("wood.png", picture.as_slice())]].concat();
    has_colour(&open(&with_picture, &config).unwrap().0, [0.0, 0.0, 1.0]);
    let (cloud, report) = open(&files, &config).unwrap();
    has_colour(&cloud, [0.2, 0.4, 0.6]);
    assert_eq!(report.notes, [Note::Missing { name: "C:\\art\\wood.png".to_owned() }]);
    let broken = [files.as_slice(), &[("wood.png", b"\x89PNG".as_slice())]].concat();
    let (_, report) = open(&broken, &config).unwrap();
    assert_eq!(report.notes, [Note::Texture { name: "C:\\art\\wood.png".to_owned() }]);

    let (cloud, report) = open(&files[..1], &config).unwrap();
    assert_eq!(cloud.rgb, None);
    let missing = |name: &str| Note::Missing { name: name.to_owned() };
    assert_eq!(report.notes, [missing("my"), missing("paints.mtl"), Note::Materials { n_materials: 1 }]);
}

#[test]
fn obj_corners_may_count_from_the_end_and_lines_may_go_on() {
    let text = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf -4 -3 \\\n -2 -1\n";
    let (cloud, report) = open(&[("a.obj", text.as_bytes())], &LoadConfig::default()).unwrap();
    assert_eq!(report.n_triangles, Some(2));
    assert!(cloud.xyz.iter().all(|p| p[2] == 0.0 && (0.0..=1.0).contains(&p[0])));
    for (face, part) in [("f 1 2 5", "vertex 5"), ("f 0 1 2", "vertex 0"), ("f 1 2 x", "`x`")] {
        let text = fault(text.replace("f -4 -3", &format!("{face}\nf -4 -3")).as_bytes(), "a.obj");
        assert!(text.contains(part), "{text}");
    }
    // Lines as faces of two corners, and corners that come later, are both in use.
    let odd = "vt 0 0\nf 3/2 2/2 1/2\nf 1 2\nv 0 0 0\nv 1 0 0\nv 1 1 0\nvt 1 1\n";
    assert_eq!(open(&[("a.obj", odd.as_bytes())], &LoadConfig::default()).unwrap().1.n_triangles, Some(1));
    let text = fault(odd.replace("1/2", "1/3").as_bytes(), "a.obj");
    assert!(text.contains("texture coordinate 3, there are 2"), "{text}");
    assert!(fault(b"# nothing\n", "a.obj").contains("no points"));
}

#[test]
fn meshes_without_a_surface_are_their_vertices() {
    let (cloud, report) = open(&[("a.obj", b"v 1 2 3\nv 4 5 6\n")], &LoadConfig::default()).unwrap();
    assert_eq!((cloud.xyz.len(), report.n_triangles, report.notes.len()), (2, None, 0));
    let (cloud, report) = open(&[("a.obj", b"v 1 2 3\nv 4 5 6\nf 1 2 1\n")], &LoadConfig::default()).unwrap();
    assert_eq!((cloud.xyz.len(), report.notes), (2, vec![Note::NoSurface]));
}

const TEXTURED: &str = r#"{"pbrMetallicRoughness":{"baseColorTexture":{"index":0}}}"#;
const FACTOR: &str = r#"{"pbrMetallicRoughness":{"baseColorFactor":[0.5,0,1,1]}}"#;

#[test]
fn gltf_scenes_place_and_paint_their_meshes() {
    let cloud = load(&glb(TEXTURED), "a.glb");
    has_colour(&cloud, [0.0, 0.0, 1.0]);
    // Scaled by 2 along x, turned so that x becomes y, moved by 10 along x.
    let turned: Vec<[f32; 3]> = cloud.xyz.iter().map(|&[x, y, z]| [y / 2.0, 10.0 - x, z]).collect();
    assert!(turned.iter().all(|p| p.iter().all(|v| v.abs() <= 1.000_01)));
    assert!(cloud.xyz.iter().any(|p| p[1] > 1.9) && cloud.xyz.iter().any(|p| p[1] < -1.9));
    // 0.5 in linear light is 0.7354 in sRGB.
    has_colour(&load(&glb(FACTOR), "a.glb"), [0.735_358, 0.0, 1.0]);
    let shifted =
        TEXTURED.replace(r#""index":0"#, r#""index":0,"extensions":{"KHR_texture_transform":{"offset":[0.5,0]}}"#);
    has_colour(&load(&glb(&shifted), "a.glb"), [1.0, 0.0, 0.0]);
}

#[test]
fn gltf_buffers_and_pictures_lie_inside_or_beside() {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let base64 = |bytes: &[u8]| {
        let mut out = String::new();
        for chunk in bytes.chunks(3) {
            let bits = chunk.iter().chain([0, 0].iter()).take(3).fold(0u32, |bits, &b| bits << 8 | u32::from(b));
            for place in 0..4 {
                let is_padding = place > chunk.len();
                out.push(if is_padding { '=' } else { char::from(digits[(bits >> (18 - 6 * place) & 63) as usize]) });
            }
        }
        out
    };
    let inside = gltf_text(
        TEXTURED,
        &format!(r#"{{"uri":"data:image/png;base64,{}"}}"#, base64(&png())),
        &format!(r#"{{"byteLength":232,"uri":"data:application/octet-stream;base64,{}"}}"#, base64(&gltf_buffer())),
        "",
    );
    let whole = load(&glb(TEXTURED), "a.glb");
    assert_eq!(load(inside.as_bytes(), "a.gltf"), whole);
    let outside = gltf_text(TEXTURED, r#"{"uri":"my%20art/a.png"}"#, r#"{"byteLength":232,"uri":"a.bin"}"#, "");
    let (buffer, picture) = (gltf_buffer(), png());
    let files = [("a.gltf", outside.as_bytes()), ("a.bin", &buffer), ("my art/a.png", &picture)];
    assert_eq!(open(&files, &LoadConfig::default()).unwrap().0, whole);
    let text = chain(&open(&files[..1], &LoadConfig::default()).unwrap_err());
    assert!(text.contains("a.bin") && text.contains("put it there"), "{text}");
}

#[test]
fn gltf_files_that_cannot_be_used_say_why() {
    let text = gltf_text(TEXTURED, "{}", r#"{"byteLength":232,"uri":"data:;base64,AAAA"}"#, "");
    assert!(fault(text.as_bytes(), "a.gltf").contains("needs 232 B, 3 B are left"));
    let edit = |from: &str, to: &str| {
        let bytes = glb(TEXTURED);
        let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).expect(from);
        // Chunks keep their length: blanks fill what is left.
        let mut out = bytes.clone();
        out[at..at + from.len()].copy_from_slice(format!("{to:width$}", width = from.len()).as_bytes());
        fault(&out, "a.glb")
    };
    let rows = [
        (r#""version":"2.0""#, r#""version":"1.0""#, "version is 1.0"),
        (r#""children":[1]"#, r#""children":[0]"#, "node is 0"),
        (r#""children":[1]"#, r#""children":[9]"#, "names node 9 of 2"),
        (r#""count":36"#, r#""count":99"#, "is cut"),
        (r#""componentType":5123"#, r#""componentType":5126"#, "expected 5121, 5123 or 5125"),
        (r#""componentType":5123"#, r#""componentType":5999"#, "is 5999"),
        (r#""POSITION":0"#, r#""POSITIOX":0"#, "POSITION"),
        (r#""mesh":0"#, r#""mesh":3"#, "names mesh 3 of 1"),
        (r#""asset""#, r#""asse}""#, "description is broken"),
    ];
    for (from, to, part) in rows {
        let text = edit(from, to);
        assert!(text.contains(part), "{from} -> {to}: {text}");
    }
    let old = r#"{"asset":{"version":"1.0"},"nodes":{"root":{}}}"#;
    assert!(fault(old.as_bytes(), "a.gltf").contains("the glTF version is 1.0"));
    let required = gltf_text(TEXTURED, "{}", r#"{"byteLength":0,"uri":"data:,"}"#, "")
        .replace(r#""scene":0"#, r#""scene":0,"extensionsRequired":["KHR_draco_mesh_compression"]"#);
    assert!(fault(required.as_bytes(), "a.gltf").contains("without mesh compression"));
}

#[test]
fn copies_of_a_mesh_are_bounded() {
    // Nodes upon nodes that all show the cube: 8 vertices each, of 2^19 that are allowed.
    let nodes: String = (2..66_000).map(|_| r#",{"mesh":0}"#).collect();
    let text = gltf_text(FACTOR, "{}", r#"{"byteLength":232,"uri":"a.bin"}"#, "");
    let list: String = (0..65_999).map(|i| if i == 0 { "0".to_owned() } else { format!(",{}", i + 1) }).collect();
    let text = text.replace(r#""nodes":[0]"#, &format!(r#""nodes":[{list}]"#));
    let text = text.replace(r#"0.70710678]}]"#, &format!("0.70710678]}}{nodes}]"));
    let error = open(&[("a.gltf", text.as_bytes()), ("a.bin", &gltf_buffer())], &LoadConfig::default())
        .map(|_| ())
        .unwrap_err();
    assert!(chain(&error).contains("fewer copies"), "{}", chain(&error));
}

#[test]
fn the_axis_that_points_up_becomes_y() {
    let text = "1 2 3\n";
    let turned =
        |up| open(&[("a.xyz", text.as_bytes())], &LoadConfig { up, ..LoadConfig::default() }).unwrap().0.xyz[0];
    assert_eq!(turned(None), [1.0, 2.0, 3.0]);
    assert_eq!(turned(Some(Axis::Y)), [1.0, 2.0, 3.0]);
    assert_eq!(turned(Some(Axis::Z)), [1.0, 3.0, -2.0]);
    assert_eq!(turned(Some(Axis::X)), [-2.0, 1.0, 3.0]);
}

#[test]
fn points_beyond_the_bound_are_thinned_and_said() {
    let text: String = (0..1000).map(|i| format!("{i} 0 0\n")).collect();
    let config = LoadConfig { max_points: 100, ..LoadConfig::default() };
    let (cloud, report) = open(&[("a.txt", text.as_bytes())], &config).unwrap();
    assert_eq!((cloud.xyz.len(), report.n_vertices), (100, 1000));
    assert_eq!(report.notes, [Note::Thinned { n_given: 1000, n_kept: 100 }]);
}

#[test]
fn folders_and_missing_files_are_no_clouds() {
    let folder = tempfile::tempdir().unwrap();
    let text = chain(&Cloud::load(folder.path()).unwrap_err());
    assert!(text.contains("no regular file"), "{text}");
}

/// A picture of one colour: `side` texels each way packed to next to nothing.
fn plain_png(side: u32) -> Vec<u8> {
    let mut out = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(side, side).write_to(&mut out, image::ImageFormat::Png).unwrap();
    out.into_inner()
}

#[test]
fn one_file_of_many_names_is_read_once() {
    // 12 MB when decoded: five such from files of their own are more than their bytes allow.
    let picture = plain_png(2048);
    let names = ["t.png", "./t.png", "././t.png", "../a/t.png", "x/../t.png"];
    let materials: String = names.iter().enumerate().map(|(i, name)| format!("newmtl m{i}\nmap_Kd {name}\n")).collect();
    let used: String = (0..names.len()).map(|i| format!("usemtl m{i}\n{}", obj_faces("/1"))).collect();
    let text = format!("mtllib m.mtl\nmtllib ./m.mtl\n{}vt 0 1\n{used}", obj_vertices(""));
    let files = [("a.obj", text.as_bytes()), ("m.mtl", materials.as_bytes()), ("t.png", &picture), ("x/y", b"")];
    let (_, report) = open(&files, &LoadConfig::default()).unwrap();
    assert_eq!(report.notes, []);
    let copies: Vec<String> = (0..5).map(|i| format!("t{i}.png")).collect();
    let materials: String =
        copies.iter().enumerate().map(|(i, name)| format!("newmtl m{i}\nmap_Kd {name}\n")).collect();
    let mut files = vec![("a.obj", text.as_bytes()), ("m.mtl", materials.as_bytes())];
    files.extend(copies.iter().map(|name| (name.as_str(), picture.as_slice())));
    let (_, report) = open(&files, &LoadConfig::default()).unwrap();
    assert_eq!(report.notes, [Note::Texture { name: "t4.png".to_owned() }]);
}

#[test]
fn gltf_buffers_of_one_file_share_it() {
    let text = gltf_text(FACTOR, "{}", r#"{"byteLength":232,"uri":"a.bin"},{"byteLength":232,"uri":"./a.bin"}"#, "");
    let text = text.replacen(r#""buffer":0"#, r#""buffer":1"#, 1);
    let (cloud, _) = open(&[("a.gltf", text.as_bytes()), ("a.bin", &gltf_buffer())], &LoadConfig::default()).unwrap();
    has_colour(&cloud, [0.735_358, 0.0, 1.0]);
}

#[test]
fn arrays_that_unpack_to_more_than_clouds_do_are_refused() {
    let zeros = |n: usize| npz(&[("xyz", npy("<f4", &format!("({n}, 3)"), &vec![0; 12 * n]))], true);
    assert_eq!(load(&zeros(1_000_000), "a.npz").xyz.len(), 1_000_000);
    assert!(fault(&zeros(2_000_000), "a.npz").contains("save it alone"));
}
