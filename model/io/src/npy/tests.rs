use proptest::prelude::*;

use super::*;

/// A file with the given header text and body.
fn file(version: u8, header: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend_from_slice(&[version, 0]);
    match version {
        1 => bytes.extend_from_slice(&(header.len() as u16).to_le_bytes()),
        _ => bytes.extend_from_slice(&(header.len() as u32).to_le_bytes()),
    }
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(body);
    bytes
}

#[test]
fn all_versions_and_byte_orders_are_read() {
    for version in 1..=3 {
        for (descr, body) in [("<u2", [1, 0, 2, 1]), (">u2", [0, 1, 1, 2])] {
            let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (2,)}}\n");
            let array = NpyArray::parse(&file(version, &header, &body)).unwrap();
            assert_eq!((array.shape(), array.data()), (&[2usize][..], &NpyData::U16(vec![1, 258])));
        }
    }
}

#[test]
fn fortran_order_comes_out_in_c_order() {
    let header = "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3, 2), }";
    // Element [i, j, k] is 100 i + 10 j + k, the first axis running fastest.
    let mut body = Vec::new();
    for k in 0..2u8 {
        for j in 0..3u8 {
            body.extend((0..2u8).map(|i| 100 * i + 10 * j + k));
        }
    }
    let array = NpyArray::parse(&file(1, header, &body)).unwrap();
    let expected = vec![0, 1, 10, 11, 20, 21, 100, 101, 110, 111, 120, 121];
    assert_eq!(array.data(), &NpyData::U8(expected));
}

#[test]
fn written_headers_are_what_numpy_writes() {
    let array = NpyArray::new(vec![2, 3], NpyData::F32(vec![0.0; 6])).unwrap();
    let bytes = array.to_bytes();
    assert_eq!(bytes.len(), 128 + 24);
    assert_eq!(&bytes[..10], b"\x93NUMPY\x01\x00\x76\x00");
    let text = std::str::from_utf8(&bytes[10..128]).unwrap();
    assert!(text.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } "));
    assert!(text.ends_with(" \n"));
    let vector = NpyArray::new(vec![1], NpyData::Bool(vec![true])).unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&vector).contains("'|b1', 'fortran_order': False, 'shape': (1,), }"));
    let scalar = NpyArray::new(vec![], NpyData::I64(vec![-7])).unwrap();
    assert!(String::from_utf8_lossy(&scalar.to_bytes()).contains("'shape': (), }"));
    assert_eq!(NpyArray::parse(&scalar.to_bytes()), Ok(scalar));
}

type IsExpected = fn(&NpyError) -> bool;

#[test]
fn broken_headers_are_explained() {
    let good = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}";
    let rows: [(&str, IsExpected); 12] = [
        ("", |e| matches!(e, NpyError::Header { .. })),
        ("{", |e| matches!(e, NpyError::Header { .. })),
        ("{}", |e| matches!(e, NpyError::Header { .. })),
        ("{'descr': '<f4', 'descr': '<f4'}", |e| matches!(e, NpyError::Header { what: "a key stands twice" })),
        ("{'descr': '<c8', 'fortran_order': False, 'shape': ()}", |e| matches!(e, NpyError::Dtype { .. })),
        ("{'descr': '|O', 'fortran_order': False, 'shape': ()}", |e| matches!(e, NpyError::Dtype { .. })),
        ("{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': ()}", |e| matches!(e, NpyError::Dtype { .. })),
        ("{'descr': '<f4', 'fortran_order': 0, 'shape': ()}", |e| matches!(e, NpyError::Header { .. })),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", |e| matches!(e, NpyError::Header { .. })),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999,9999999999,)}", |e| {
            matches!(e, NpyError::Shape { .. })
        }),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", |e| {
            matches!(e, NpyError::Header { .. })
        }),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", |e| {
            matches!(e, NpyError::Cut { need_bytes: 8, have_bytes: 4, .. })
        }),
    ];
    for (header, is_expected) in rows {
        let error = NpyArray::parse(&file(1, header, &[0; 4])).unwrap_err();
        assert!(is_expected(&error), "{header}: {error:?}");
    }
    assert!(NpyArray::parse(&file(1, good, &[0; 4])).is_ok());
    assert_eq!(NpyArray::parse(b"PK"), Err(NpyError::Magic));
    assert_eq!(NpyArray::parse(&file(4, good, &[0; 4])), Err(NpyError::Version { major: 4, minor: 0 }));
}

#[test]
fn a_shape_must_fit_its_elements() {
    assert!(NpyArray::new(vec![2, 2], NpyData::U8(vec![0; 3])).is_none());
    assert!(NpyArray::new(vec![usize::MAX, 2], NpyData::U8(vec![])).is_none());
    assert!(NpyArray::new(vec![0, 6], NpyData::U8(vec![])).is_some());
}

fn any_data() -> impl Strategy<Value = NpyData> {
    let len = 0..40usize;
    let f32s = any::<u32>().prop_map(f32::from_bits).prop_filter("NaN is not equal to itself", |x| !x.is_nan());
    prop_oneof![
        proptest::collection::vec(any::<bool>(), len.clone()).prop_map(NpyData::Bool),
        proptest::collection::vec(any::<u8>(), len.clone()).prop_map(NpyData::U8),
        proptest::collection::vec(any::<u16>(), len.clone()).prop_map(NpyData::U16),
        proptest::collection::vec(any::<u32>(), len.clone()).prop_map(NpyData::U32),
        proptest::collection::vec(any::<u64>(), len.clone()).prop_map(NpyData::U64),
        proptest::collection::vec(any::<i8>(), len.clone()).prop_map(NpyData::I8),
        proptest::collection::vec(any::<i16>(), len.clone()).prop_map(NpyData::I16),
        proptest::collection::vec(any::<i32>(), len.clone()).prop_map(NpyData::I32),
        proptest::collection::vec(any::<i64>(), len.clone()).prop_map(NpyData::I64),
        proptest::collection::vec(f32s, len.clone()).prop_map(NpyData::F32),
        proptest::collection::vec(-1e300..1e300f64, len.clone()).prop_map(NpyData::F64),
        proptest::collection::vec((-6e4..6e4f32).prop_map(f16::from_f32), len).prop_map(NpyData::F16),
    ]
}

proptest! {
    #[test]
    fn written_arrays_read_back_alike(data in any_data(), split in 1usize..5) {
        let n_elems = with_elements!(&data, v => v.len());
        let shape = if n_elems % split == 0 { vec![split, n_elems / split] } else { vec![n_elems] };
        let array = NpyArray::new(shape, data).unwrap();
        prop_assert_eq!(NpyArray::parse(&array.to_bytes()), Ok(array));
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), version in 1u8..4) {
        let _ = NpyArray::parse(&bytes);
        let _ = NpyArray::parse(&file(version, &String::from_utf8_lossy(&bytes), &[]));
    }

    #[test]
    fn altered_and_cut_files_never_panic(at in 0usize..152, bit in 0u8..8, cut in 0usize..152) {
        let mut bytes = NpyArray::new(vec![2, 3], NpyData::F32(vec![1.5; 6])).unwrap().to_bytes();
        bytes[at] ^= 1 << bit;
        let _ = NpyArray::parse(&bytes);
        let is_cut = NpyArray::parse(&bytes[..cut]).is_err();
        prop_assert!(is_cut || at < 128);
    }
}
