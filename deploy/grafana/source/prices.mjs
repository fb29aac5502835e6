// The price list of S3, in dollars: that of AWS for the class Standard in us-east-1, without volume discounts, as
// published in 2026. It is the default of the fields at the top of the dashboard; put the list of your provider here.
export const prices = {
  // PUT, COPY, POST and LIST, for a thousand requests. DELETE costs nothing.
  put: 0.005,
  // GET and all others, for a thousand requests.
  get: 0.0004,
  // Storage, for a GB (10^9 bytes) and month.
  storage: 0.023,
};
