//! Fuzz bodies: functions of bytes, with a model beside them where there is one.
