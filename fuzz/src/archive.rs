//! How does a fuzzer get behind a zip archive's checks? Members are stored as they are, under headers that are right.

/// An archive of stored files.
pub fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut body, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in members {
        let at = (body.len() as u32).to_le_bytes();
        let size = (bytes.len() as u32).to_le_bytes();
        let length = (name.len() as u16).to_le_bytes();
        // Version, flags, method and time; a checksum of 0, which readers of stored parts do not compare.
        let common = [&[20, 0][..], &[0; 8], &[0; 4], &size, &size, &length, &[0; 2]].concat();
        body.extend([b"PK\x03\x04", &common[..], name.as_bytes(), bytes].concat());
        directory.extend([b"PK\x01\x02\x14\x00", &common[..], &[0; 10], &at, name.as_bytes()].concat());
    }
    let count = (members.len() as u16).to_le_bytes();
    let sizes = [(directory.len() as u32).to_le_bytes(), (body.len() as u32).to_le_bytes()].concat();
    [&body[..], &directory, b"PK\x05\x06", &[0; 4], &count, &count, &sizes, &[0; 2]].concat()
}
