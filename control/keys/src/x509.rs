//! Certificates (RFC 5280) and certificate requests (RFC 2986), read and written without a signature algorithm in
//! sight: who signs hands in a closure, who verifies gets the parts.

use std::net::IpAddr;

use crate::{
    CsrFacts, KeyError,
    der::{BadDer, DER_BYTES_MAX, Element, Reader, bit_string, integer, nest, tag, value},
};

const OID_CN: &[u8] = &[0x55, 4, 3];
const OID_O: &[u8] = &[0x55, 4, 10];
const OID_SAN: &[u8] = &[0x55, 0x1d, 17];
const OID_BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
const OID_KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
const OID_EXT_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
const OID_SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 14];
const OID_AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 35];
const OID_SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
const OID_CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
/// 1.2.840.113549.1.9.14, `extensionRequest`.
const OID_EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];

const TAG_DNS: u8 = 0x82;
const TAG_IP: u8 = 0x87;

/// Who or what a certificate speaks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertFacts {
    /// Subject CN.
    pub common_name: String,
    /// Subject O, in order.
    pub organizations: Vec<String>,
    /// First second of validity (Unix).
    pub not_before_s: i64,
    /// Last second of validity (Unix).
    pub not_after_s: i64,
    /// Subject alternative names.
    pub dns_names: Vec<String>,
    /// Subject alternative names that are addresses.
    pub ip_addresses: Vec<String>,
    /// DER of the subject.
    pub subject_der: Vec<u8>,
    /// DER of the SubjectPublicKeyInfo.
    pub public_key_der: Vec<u8>,
}

/// A signature and what it is over.
#[derive(Clone, Debug)]
pub struct Signed<'a> {
    /// The signed bytes.
    pub message: &'a [u8],
    /// Whole AlgorithmIdentifier of the signature.
    pub algorithm: &'a [u8],
    /// The signature.
    pub signature: &'a [u8],
}

/// A request, taken apart; its signature is not checked yet.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// What it asks for.
    pub facts: CsrFacts,
    /// Whole subject Name.
    pub subject_der: &'a [u8],
    /// Whole SubjectPublicKeyInfo.
    pub public_key_der: &'a [u8],
    /// Its own signature.
    pub signed: Signed<'a>,
}

fn bad(what: &str, cause: BadDer) -> KeyError {
    KeyError(format!("the {what} cannot be read: {}", cause.0))
}

/// Takes a DER request apart.
pub fn read_request(der: &[u8]) -> Result<Request<'_>, KeyError> {
    read_request_der(der).map_err(|e| bad("certificate request", e))
}

fn outer(der: &[u8]) -> Result<(Element<'_>, Signed<'_>), BadDer> {
    if der.len() > DER_BYTES_MAX {
        return Err(BadDer("over 32 KiB"));
    }
    let mut file = Reader::new(der);
    let mut all = file.expect(tag::SEQUENCE)?.inside();
    file.end()?;
    let body = all.expect(tag::SEQUENCE)?;
    let algorithm = all.expect(tag::SEQUENCE)?.whole;
    let signature = all.expect(tag::BIT_STRING)?.bits()?;
    all.end()?;
    Ok((body, Signed { message: body.whole, algorithm, signature }))
}

fn read_request_der(der: &[u8]) -> Result<Request<'_>, BadDer> {
    let (body, signed) = outer(der)?;
    let mut info = body.inside();
    if info.expect(tag::INTEGER)?.content != [0] {
        return Err(BadDer("not version 1"));
    }
    let subject = info.expect(tag::SEQUENCE)?;
    let public_key = info.expect(tag::SEQUENCE)?;
    let mut facts = CsrFacts::default();
    (facts.common_name, facts.organizations) = read_name(subject)?;
    if let Some(attributes) = info.optional(0xa0)? {
        let mut attributes = attributes.inside();
        while !attributes.is_empty() {
            let mut attribute = attributes.expect(tag::SEQUENCE)?.inside();
            let oid = attribute.expect(tag::OID)?.content;
            let values = attribute.expect(tag::SET)?;
            if oid == OID_EXTENSION_REQUEST {
                let mut names = Names::default();
                read_extensions(values.inside().expect(tag::SEQUENCE)?, &mut names)?;
                facts.dns_names = names.dns;
                facts.ip_addresses = names.ips;
                facts.other_names = names.other;
            }
        }
    }
    info.end()?;
    Ok(Request { facts, subject_der: subject.whole, public_key_der: public_key.whole, signed })
}

/// Reads a DER certificate; its signature is the caller's to check ([`certificate_signed`]).
pub fn read_certificate(der: &[u8]) -> Result<CertFacts, KeyError> {
    read_certificate_der(der).map_err(|e| bad("certificate", e))
}

/// The signed parts of a DER certificate.
pub fn certificate_signed(der: &[u8]) -> Result<Signed<'_>, KeyError> {
    outer(der).map(|(_, signed)| signed).map_err(|e| bad("certificate", e))
}

fn read_certificate_der(der: &[u8]) -> Result<CertFacts, BadDer> {
    let (body, _) = outer(der)?;
    let mut tbs = body.inside();
    tbs.optional(0xa0)?; // version
    tbs.expect(tag::INTEGER)?; // serial
    tbs.expect(tag::SEQUENCE)?; // signature algorithm
    tbs.expect(tag::SEQUENCE)?; // issuer
    let mut validity = tbs.expect(tag::SEQUENCE)?.inside();
    let subject = tbs.expect(tag::SEQUENCE)?;
    let public_key = tbs.expect(tag::SEQUENCE)?;
    let (common_name, organizations) = read_name(subject)?;
    let mut names = Names::default();
    while !tbs.is_empty() {
        let element = tbs.any()?;
        if element.tag == 0xa3 {
            read_extensions(element.inside().expect(tag::SEQUENCE)?, &mut names)?;
        }
    }
    Ok(CertFacts {
        common_name,
        organizations,
        not_before_s: read_time(validity.any()?)?,
        not_after_s: read_time(validity.any()?)?,
        dns_names: names.dns,
        ip_addresses: names.ips,
        subject_der: subject.whole.into(),
        public_key_der: public_key.whole.into(),
    })
}

/// The algorithm (whole AlgorithmIdentifier) and the key bits of a SubjectPublicKeyInfo.
pub fn read_public_key(der: &[u8]) -> Result<(&[u8], &[u8]), KeyError> {
    let read = || {
        let mut parts = Reader::new(der).expect(tag::SEQUENCE)?.inside();
        let algorithm = parts.expect(tag::SEQUENCE)?.whole;
        let bits = parts.expect(tag::BIT_STRING)?.bits()?;
        parts.end()?;
        Ok((algorithm, bits))
    };
    read().map_err(|e| bad("public key", e))
}

fn read_name(name: Element<'_>) -> Result<(String, Vec<String>), BadDer> {
    let (mut common_name, mut organizations) = (String::new(), Vec::new());
    let mut rdns = name.inside();
    while !rdns.is_empty() {
        let mut rdn = rdns.expect(tag::SET)?.inside();
        while !rdn.is_empty() {
            let mut attribute = rdn.expect(tag::SEQUENCE)?.inside();
            let oid = attribute.expect(tag::OID)?.content;
            let text = attribute.any()?;
            if oid != OID_CN && oid != OID_O {
                continue;
            }
            if ![tag::UTF8_STRING, tag::PRINTABLE_STRING, tag::IA5_STRING].contains(&text.tag) {
                return Err(BadDer("a name in an old character set"));
            }
            let text = str::from_utf8(text.content).map_err(|_| BadDer("a name not in UTF-8"))?;
            if oid == OID_CN {
                common_name = text.into();
            } else {
                organizations.push(text.into());
            }
        }
    }
    Ok((common_name, organizations))
}

#[derive(Default)]
struct Names {
    dns: Vec<String>,
    ips: Vec<String>,
    other: bool,
}

fn read_extensions(extensions: Element<'_>, names: &mut Names) -> Result<(), BadDer> {
    let mut extensions = extensions.inside();
    while !extensions.is_empty() {
        let mut extension = extensions.expect(tag::SEQUENCE)?.inside();
        let oid = extension.expect(tag::OID)?.content;
        extension.optional(tag::BOOLEAN)?;
        let body = extension.expect(tag::OCTET_STRING)?;
        if oid == OID_SAN {
            let mut general = body.inside().expect(tag::SEQUENCE)?.inside();
            while !general.is_empty() {
                read_general_name(general.any()?, names)?;
            }
        }
    }
    Ok(())
}

fn read_general_name(name: Element<'_>, names: &mut Names) -> Result<(), BadDer> {
    match (name.tag, name.content.len()) {
        (TAG_DNS, _) if name.content.is_ascii() => {
            names.dns.push(name.content.iter().map(|b| char::from(*b)).collect());
        }
        (TAG_IP, 4) => {
            let octets: [u8; 4] = name.content.try_into().map_err(|_| BadDer("an address"))?;
            names.ips.push(IpAddr::from(octets).to_string());
        }
        (TAG_IP, 16) => {
            let octets: [u8; 16] = name.content.try_into().map_err(|_| BadDer("an address"))?;
            names.ips.push(IpAddr::from(octets).to_string());
        }
        (TAG_DNS | TAG_IP, _) => return Err(BadDer("a malformed alternative name")),
        _ => names.other = true,
    }
    Ok(())
}

/// Writes a subject: each O, then CN.
pub fn name(common_name: &str, organizations: &[&str]) -> Vec<u8> {
    let rdn = |oid: &[u8], text: &str| {
        let pair = nest(
            tag::SEQUENCE,
            &[&value(tag::OID, oid), &value(tag::UTF8_STRING, text.as_bytes())],
        );
        value(tag::SET, &pair)
    };
    let mut rdns: Vec<u8> = organizations.iter().flat_map(|o| rdn(OID_O, o)).collect();
    rdns.extend(rdn(OID_CN, common_name));
    value(tag::SEQUENCE, &rdns)
}

fn extension(oid: &[u8], critical: bool, body: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[tag::BOOLEAN, 1, 0xff] } else { &[] };
    nest(tag::SEQUENCE, &[&value(tag::OID, oid), critical, &value(tag::OCTET_STRING, body)])
}

fn alternative_names(dns: &[String], ips: &[String]) -> Result<Option<Vec<u8>>, KeyError> {
    let mut general: Vec<u8> = dns.iter().flat_map(|d| value(TAG_DNS, d.as_bytes())).collect();
    for ip in ips {
        let address: IpAddr =
            ip.parse().map_err(|_| KeyError(format!("`{ip}` is no IP address")))?;
        match address {
            IpAddr::V4(v4) => general.extend(value(TAG_IP, &v4.octets())),
            IpAddr::V6(v6) => general.extend(value(TAG_IP, &v6.octets())),
        }
    }
    let some = !general.is_empty();
    Ok(some.then(|| extension(OID_SAN, false, &value(tag::SEQUENCE, &general))))
}

/// What to write into a certificate.
#[derive(Clone, Debug)]
pub struct Template<'a> {
    /// Whole issuer Name.
    pub issuer_der: &'a [u8],
    /// Whole subject Name.
    pub subject_der: &'a [u8],
    /// Whole SubjectPublicKeyInfo of the subject.
    pub public_key_der: &'a [u8],
    /// Key identifier of the issuer's key and of the subject's (20 octets each by custom).
    pub key_ids: (&'a [u8], &'a [u8]),
    /// Validity, first and last second.
    pub validity_s: (i64, i64),
    /// Serial number, big-endian; its highest bit is cleared.
    pub serial: [u8; 16],
    /// A certificate authority; the two usages below are then left out.
    pub authority: bool,
    /// TLS client.
    pub client: bool,
    /// TLS server.
    pub server: bool,
    /// Alternative names.
    pub dns_names: &'a [String],
    /// Alternative names that are addresses.
    pub ip_addresses: &'a [String],
}

/// Writes a certificate. `algorithm` is the whole AlgorithmIdentifier of what `sign` makes.
pub fn write_certificate(
    template: &Template<'_>,
    algorithm: &[u8],
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, KeyError>,
) -> Result<Vec<u8>, KeyError> {
    let mut serial = template.serial;
    if let Some(first) = serial.first_mut() {
        *first &= 0x7f;
    }
    let mut extensions: Vec<u8> = Vec::new();
    let (constraints, usage): (&[u8], &[u8]) = if template.authority {
        // keyCertSign, cRLSign and digitalSignature
        (&[tag::SEQUENCE, 3, tag::BOOLEAN, 1, 0xff], &[tag::BIT_STRING, 2, 1, 0x86])
    } else {
        (&[tag::SEQUENCE, 0], &[tag::BIT_STRING, 2, 7, 0x80])
    };
    extensions.extend(extension(OID_BASIC_CONSTRAINTS, true, constraints));
    extensions.extend(extension(OID_KEY_USAGE, true, usage));
    let mut purposes = Vec::new();
    if template.server && !template.authority {
        purposes.extend(value(tag::OID, OID_SERVER_AUTH));
    }
    if template.client && !template.authority {
        purposes.extend(value(tag::OID, OID_CLIENT_AUTH));
    }
    if !purposes.is_empty() {
        extensions.extend(extension(OID_EXT_KEY_USAGE, false, &value(tag::SEQUENCE, &purposes)));
    }
    let (issuer_id, subject_id) = template.key_ids;
    let subject_id = value(tag::OCTET_STRING, subject_id);
    extensions.extend(extension(OID_SUBJECT_KEY_ID, false, &subject_id));
    let issuer_id = value(tag::SEQUENCE, &value(0x80, issuer_id));
    extensions.extend(extension(OID_AUTHORITY_KEY_ID, false, &issuer_id));
    extensions.extend(
        alternative_names(template.dns_names, template.ip_addresses)?.into_iter().flatten(),
    );
    let (from, until) = template.validity_s;
    let tbs = nest(
        tag::SEQUENCE,
        &[
            &value(0xa0, &integer(&[2])),
            &integer(&serial),
            algorithm,
            template.issuer_der,
            &nest(tag::SEQUENCE, &[&write_time(from), &write_time(until)]),
            template.subject_der,
            template.public_key_der,
            &value(0xa3, &value(tag::SEQUENCE, &extensions)),
        ],
    );
    let signature = sign(&tbs)?;
    Ok(nest(tag::SEQUENCE, &[&tbs, algorithm, &bit_string(&signature)]))
}

/// Writes a request for these facts and this key.
pub fn write_request(
    facts: &CsrFacts,
    public_key_der: &[u8],
    algorithm: &[u8],
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, KeyError>,
) -> Result<Vec<u8>, KeyError> {
    let organizations: Vec<&str> = facts.organizations.iter().map(String::as_str).collect();
    let attributes = match alternative_names(&facts.dns_names, &facts.ip_addresses)? {
        None => Vec::new(),
        Some(names) => nest(
            tag::SEQUENCE,
            &[
                &value(tag::OID, OID_EXTENSION_REQUEST),
                &value(tag::SET, &value(tag::SEQUENCE, &names)),
            ],
        ),
    };
    let info = nest(
        tag::SEQUENCE,
        &[
            &integer(&[0]),
            &name(&facts.common_name, &organizations),
            public_key_der,
            &value(0xa0, &attributes),
        ],
    );
    let signature = sign(&info)?;
    Ok(nest(tag::SEQUENCE, &[&info, algorithm, &bit_string(&signature)]))
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar (Howard Hinnant's days_from_civil).
fn days_from_date(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month (1..=12) and day (1..=31) of a number of days since 1970-01-01.
pub fn date_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn write_time(unix_s: i64) -> Vec<u8> {
    let (year, month, day) = date_from_days(unix_s.div_euclid(86_400));
    let second = unix_s.rem_euclid(86_400);
    let rest =
        format!("{month:02}{day:02}{:02}{:02}{:02}Z", second / 3600, second / 60 % 60, second % 60);
    if (1950..2050).contains(&year) {
        value(tag::UTC_TIME, format!("{:02}{rest}", year % 100).as_bytes())
    } else {
        value(tag::GENERALIZED_TIME, format!("{year:04}{rest}").as_bytes())
    }
}

fn read_time(time: Element<'_>) -> Result<i64, BadDer> {
    let malformed = BadDer("a malformed time");
    let text = str::from_utf8(time.content).map_err(|_| malformed)?;
    let digits = text.strip_suffix('Z').ok_or(malformed)?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(malformed);
    }
    let number = |from: usize, to: usize| {
        digits.get(from..to).and_then(|d| d.parse::<i64>().ok()).ok_or(malformed)
    };
    let (year, at) = match (time.tag, digits.len()) {
        (tag::UTC_TIME, 12) => match number(0, 2)? {
            year @ 0..50 => (2000 + year, 2),
            year => (1900 + year, 2),
        },
        (tag::GENERALIZED_TIME, 14) => (number(0, 4)?, 4),
        _ => return Err(malformed),
    };
    let days = days_from_date(year, number(at, at + 2)?, number(at + 2, at + 4)?);
    let hours = number(at + 4, at + 6)?;
    let minutes = number(at + 6, at + 8)?;
    Ok(days * 86_400 + hours * 3600 + minutes * 60 + number(at + 8, at + 10)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let check = |unix_s: i64, want: &str| {
            let bytes = write_time(unix_s);
            let element = Reader::new(&bytes).any().unwrap();
            assert_eq!(str::from_utf8(element.content).unwrap(), want);
            assert_eq!(read_time(element).unwrap(), unix_s);
        };
        check(0, "700101000000Z");
        check(951_782_399, "000228235959Z");
        check(951_868_799, "000229235959Z");
        check(2_524_607_999, "491231235959Z");
        check(2_524_608_000, "20500101000000Z");
        check(1_577_836_800, "200101000000Z");
    }

    #[test]
    fn garbage_is_refused_at_every_cut() {
        let facts = CsrFacts {
            common_name: "x".into(),
            dns_names: vec!["a.b".into()],
            ..CsrFacts::default()
        };
        let key = nest(tag::SEQUENCE, &[&value(tag::SEQUENCE, &[]), &bit_string(&[1, 2])]);
        let algorithm = value(tag::SEQUENCE, &[]);
        let der = write_request(&facts, &key, &algorithm, |_| Ok(vec![9])).unwrap();
        assert_eq!(read_request(&der).unwrap().facts, facts);
        for cut in 0..der.len() {
            assert!(read_request(&der[..cut]).is_err(), "cut at {cut}");
        }
        let mut longer = der.clone();
        longer.push(0);
        assert!(read_request(&longer).is_err());
        for at in 0..der.len() {
            let mut bent = der.clone();
            bent[at] ^= 0x41;
            let _no_panic = read_request(&bent);
        }
    }
}
